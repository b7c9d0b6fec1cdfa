"""Photographs of all kinds are read as a person sees them."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import UserError
from pipeline.data.images import decode

RED, WHITE = (254, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def near(image: Image.Image, x: int, y: int, colour: tuple[int, int, int]) -> bool:
    """Is the pixel of this colour, but for what JPEG and its like lose?"""
    return bool(abs(np.asarray(image)[y, x].astype(int) - colour).max() < 8)


def half_red() -> Image.Image:
    """The left half red, the right one white."""
    image = Image.new("RGB", (32, 16), WHITE)
    image.paste(RED, (0, 0, 16, 16))
    return image


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_formats(kind: str) -> None:
    image = decode(encoded(half_red(), kind), "x")
    assert (image.mode, image.size) == ("RGB", (32, 16))
    assert near(image, 3, 3, RED)
    assert near(image, 28, 3, WHITE)


def test_only_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, WHITE)]
    assert decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x").getpixel((0, 0)) == RED


def test_exif_turns_an_image_upright_and_damaged_exif_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    turned = encoded(half_red(), "PNG", exif=exif.tobytes())
    image = decode(turned, "x")
    assert image.size == (16, 32)
    assert (image.getpixel((8, 2)), image.getpixel((8, 30))) == (RED, WHITE)
    assert decode(encoded(half_red(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"), "x").size == (32, 16)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    read = decode(encoded(image.convert(mode), "PNG"), "x")
    assert (read.getpixel((2, 2)), read.getpixel((12, 2))) == ((0, 0, 0), WHITE)


def test_sixteen_bits_are_scaled_and_cmyk_is_converted() -> None:
    grey = Image.fromarray(np.full((16, 16), 32_896, np.uint16))  # 128 * 257
    assert decode(encoded(grey, "PNG"), "x").getpixel((0, 0)) == (128, 128, 128)
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert near(decode(encoded(cmyk, "JPEG"), "x"), 0, 0, RED)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "none of AVIF, BMP, GIF, JPEG, PNG, TIFF, WEBP"),
        (encoded(half_red(), "PNG")[:60], "truncated"),
        (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "could be decompression bomb"),
        (encoded(Image.new("1", (10_000, 16)), "PNG"), "10000 x 16 pixels"),
        (encoded(half_red(), "AVIF").replace(b"iloc", b"free"), "Failed to decode image"),
    ],
    ids=["EPS", "cut short", "bomb", "strip", "damaged AVIF"],
)
def test_what_is_no_photograph_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=f"x: not a readable image .*{reason}"):
        decode(content, "x")
