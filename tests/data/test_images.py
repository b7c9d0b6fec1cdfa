"""Photographs of all kinds are read as a person sees them, and resized as torchvision does."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from pipeline.base.errors import UserError
from pipeline.data.images import Preprocessing, central_square, decode
from tests.conftest import jpeg

Colour = tuple[int, int, int]
RED: Colour = (254, 0, 0)
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def has_colour(image: Image.Image, x: int, y: int, colour: Colour) -> bool:
    """Whether a pixel has this colour, apart from what lossy formats change."""
    difference = np.asarray(image)[y, x].astype(int) - colour
    return bool(abs(difference).max() < 8)


def half_red() -> Image.Image:
    """The left half red, the right one white."""
    image = Image.new("RGB", (32, 16), WHITE)
    image.paste(RED, (0, 0, 16, 16))
    return image


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_formats(kind: str) -> None:
    image = decode(encode(half_red(), kind), "x")
    assert (image.mode, image.size) == ("RGB", (32, 16))
    assert has_colour(image, 3, 3, RED)
    assert has_colour(image, 28, 3, WHITE)


def test_only_the_first_frame_of_an_animation_is_read() -> None:
    first = Image.new("RGB", (16, 16), RED)
    second = Image.new("RGB", (16, 16), WHITE)
    animation = encode(first, "GIF", save_all=True, append_images=[second])
    assert decode(animation, "x").getpixel((0, 0)) == RED


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_turns_an_image_upright_and_damaged_exif_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees, clockwise
    image = decode(encode(half_red(), "PNG", exif=exif.tobytes()), "x")
    assert image.size == (16, 32)
    assert image.getpixel((8, 2)) == RED
    assert image.getpixel((8, 30)) == WHITE
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
    assert decode(encode(half_red(), "JPEG", exif=damaged), "x").size == (32, 16)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    read = decode(encode(image.convert(mode), "PNG"), "x")
    assert read.getpixel((2, 2)) == BLACK
    assert read.getpixel((12, 2)) == WHITE


def test_sixteen_bits_are_scaled_and_cmyk_is_converted() -> None:
    grey = Image.fromarray(np.full((16, 16), 128 * 257, np.uint16))
    assert decode(encode(grey, "PNG"), "x").getpixel((0, 0)) == (128, 128, 128)
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert has_colour(decode(encode(cmyk, "JPEG"), "x"), 0, 0, RED)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "none of AVIF, BMP, GIF, JPEG, PNG, TIFF, WEBP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "none of AVIF, BMP, GIF, JPEG"),
        (encode(half_red(), "PNG")[:60], "truncated"),
        (jpeg(1)[:-300], "truncated"),
        (encode(Image.new("1", (20_000, 20_000)), "PNG"), "could be decompression bomb"),
        (encode(Image.new("1", (10_000, 16)), "PNG"), "10000 x 16 pixels"),
        (encode(half_red(), "AVIF").replace(b"iloc", b"free"), "Failed to decode image"),
    ],
    ids=["web page", "EPS", "PNG cut short", "JPEG cut short", "bomb", "strip", "damaged AVIF"],
)
def test_other_bytes_are_refused_with_the_name_of_the_image(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=f"jpg/1: not a readable image .*{reason}"):
        decode(content, "jpg/1")


@pytest.mark.parametrize("size", [(500, 667), (667, 500), (500, 500), (501, 752), (40, 31)])
def test_pixels_are_those_of_torchvision(size: tuple[int, int]) -> None:
    encoded = jpeg(3, *size)
    theirs = Compose([Resize(256), CenterCrop(224)])(decode(encoded, "x"))
    preprocessing = Preprocessing(resize=256, crop=224, mean=[0.5] * 3, std=[0.5] * 3)
    ours = central_square(encoded, "x", preprocessing)
    assert (ours.dtype, ours.shape) == (np.uint8, (224, 224, 3))
    assert np.array_equal(ours, np.asarray(theirs))
