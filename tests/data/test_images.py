"""Images of all kinds are read as a person sees them, and resized as torchvision does."""

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from pipeline.base.errors import UserError
from pipeline.data.images import (
    FORMATS,
    HEIF_READER,
    Examined,
    Preprocessing,
    central_square,
    decode,
    examine,
    fitted,
)
from pipeline.data.views import normalise
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


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind: str) -> None:
    encoded = encode(half_red(), kind)
    image = decode(encoded, "x")
    assert (image.mode, image.size) == ("RGB", (32, 16))
    assert has_colour(image, 3, 3, RED)
    assert has_colour(image, 28, 3, WHITE)
    assert examine(encoded) == Examined(is_image=True)
    assert examine(encoded[:256]).is_image


@pytest.mark.parametrize(
    ("mode", "header"), [("1", b"P4"), ("L", b"P5"), ("RGB", b"P6"), ("F", b"Pf")]
)
def test_relatives_of_ppm(mode: str, header: bytes) -> None:
    """PBM, PGM, PPM and PFM."""
    image = Image.new("L", (16, 16), 255).convert(mode)
    image.paste(0, (0, 0, 16, 8)) if mode != "RGB" else image.paste(BLACK, (0, 0, 16, 8))
    encoded = encode(image, "PPM")
    assert encoded.startswith(header)
    assert decode(encoded, "x").getpixel((3, 3)) == BLACK
    assert decode(encoded, "x").getpixel((3, 12)) == WHITE
    assert examine(encoded).is_image


def test_heic_is_read_where_pillow_heif_is_installed() -> None:
    """As a phone stores a photograph: turned by 90 degrees, and to be turned back."""
    pytest.importorskip("pillow_heif")
    assert "HEIF" in FORMATS
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees, clockwise
    image = Image.new("RGB", (64, 32), WHITE)
    image.paste(RED, (0, 0, 32, 32))
    encoded = encode(image, "HEIF", exif=exif.tobytes(), quality=95)
    assert examine(encoded) == Examined(is_image=True)
    assert decode(encoded, "x").size == (32, 64)
    assert has_colour(decode(encoded, "x"), 16, 8, RED)
    assert has_colour(decode(encoded, "x"), 16, 56, WHITE)
    assert examine(encoded[:100]) == Examined(is_image=True, fault="damaged or cut short")


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


# What cannot be read: some bytes, whether they begin as an image does, and why not.
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
MAC = b"\0\5\x16\7\0\2\0\0Mac OS X        "
FAULTS: dict[str, tuple[bytes, bool, str]] = {
    "empty": (b"", False, "an empty file"),
    "web page": (b"<!DOCTYPE html><title>404</title>", False, "it begins with '<!DOCTYPE'"),
    "text": ("\ufeff  Größe\n".encode(), False, "it begins with 'Größe'"),
    "text like an image": (b"BMI,age\n1,2\n", False, "it begins with 'BMI,age'"),
    "text like another": (b"P5 is a prime\n", False, "it begins with 'P5'"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", False, "a pointer of Git LFS, .*"),
    "of a Mac": (MAC, False, "it begins with the bytes 00 05 16 07 00 02 00 00"),
    "zeros": (bytes(100), False, "it holds nothing but zeros"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n", True, "an EPS image: convert it to PNG or JPEG"),
    "Photoshop": (b"8BPS\0\1" + bytes(20), True, "a Photoshop image: convert it to PNG or JPEG"),
    "DICOM": (bytes(128) + b"DICM", True, "a DICOM image: convert it to PNG or JPEG"),
    "PNG cut short": (encode(half_red(), "PNG")[:60], True, "cut short"),
    "JPEG cut short": (jpeg(1)[:-300], True, "cut short"),
    "TIFF cut short": (encode(half_red(), "TIFF")[:-300], True, "cut short"),
    "GIF cut short": (encode(half_red(), "GIF")[:-20], True, "cut short"),
    "PPM cut short": (encode(half_red(), "PPM")[:-20], True, "cut short"),
    "WebP cut short": (encode(half_red(), "WEBP")[:-20], True, "damaged or cut short"),
    "JPEG without end": (jpeg(1)[:4], True, "damaged or cut short"),
    "bomb": (
        encode(Image.new("1", (20_000, 15_000)), "PNG"),
        True,
        "300,000,000 pixels: more than 178,956,970",
    ),
    "strip": (
        encode(Image.new("L", (20_000, 60)), "PNG"),
        True,
        "20,000 x 60 pixels: longer than 50 times its width",
    ),
    "damaged AVIF": (
        encode(half_red(), "AVIF").replace(b"iloc", b"free"),
        True,
        "damaged: Failed to decode image.*",
    ),
}


@pytest.mark.parametrize(("content", "is_image", "reason"), FAULTS.values(), ids=FAULTS.keys())
def test_other_bytes_are_refused_in_words(content: bytes, is_image: bool, reason: str) -> None:
    seen = examine(content)
    assert seen.is_image == is_image
    assert re.fullmatch(
        reason if is_image or not content else rf"not an image \({reason}\)", seen.fault
    )
    assert not seen.scaled
    with pytest.raises(UserError, match=rf"^jpg/1: not a readable image \({reason}\)$"):
        decode(content, "jpg/1")


@pytest.mark.skipif(bool(HEIF_READER), reason="pillow-heif is installed")
@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_heic_says_what_to_install(brand: bytes) -> None:
    fault = "a HEIC image: install pillow-heif (pip install pillow-heif), or convert it"
    assert examine(HEIC.replace(b"ftypheic", b"ftyp" + brand)) == Examined(True, fault)


def test_mif1_may_be_avif() -> None:
    avif = encode(half_red(), "AVIF")
    named = avif.replace(b"ftypavif", b"ftypmif1", 1)
    assert named != avif
    assert examine(named) == Examined(is_image=True)
    assert "AVIF" not in examine(named[:200]).fault
    assert "HEIC" not in examine(named[:200]).fault


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_beginning_of_an_image_has_an_answer() -> None:
    """And where there is no fault, it can be decoded."""
    for kind in FORMATS:
        encoded = encode(half_red(), kind)
        for size in range(len(encoded)):
            if not examine(encoded[:size]).fault:
                decode(encoded[:size], "x")


@pytest.mark.parametrize("size", [(500, 667), (667, 500), (500, 500), (501, 752), (40, 31)])
def test_pixels_are_those_of_torchvision(size: tuple[int, int]) -> None:
    encoded = jpeg(3, *size)
    theirs = Compose([Resize(256), CenterCrop(224)])(decode(encoded, "x"))
    preprocessing = Preprocessing(resize=256, crop=224, mean=[0.5] * 3, std=[0.5] * 3)
    ours = central_square(encoded, "x", preprocessing)
    assert (ours.dtype, ours.shape) == (np.uint8, (224, 224, 3))
    assert np.array_equal(ours, np.asarray(theirs))


PADDING = Preprocessing(
    resize=40, crop=32, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], fit="pad"
)
CANVAS = (124, 116, 104)


@pytest.mark.parametrize(
    ("size", "box"),  # left, top, right, bottom of the image on the canvas
    [
        ((64, 32), (4, 12, 36, 28)),
        ((32, 64), (12, 4, 28, 36)),
        ((100, 100), (4, 4, 36, 36)),
        ((8, 16), (12, 4, 28, 36)),  # smaller than the square
        ((300, 6), (4, 19, 36, 20)),  # less than a pixel high
        ((60, 33), (4, 11, 36, 28)),
    ],
)
def test_a_padded_image_is_whole_in_the_middle_of_the_square(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    canvas = np.array(fitted(Image.new("RGB", size, RED), PADDING))
    assert canvas.shape == (40, 40, 3)
    left, top, right, bottom = box
    assert (canvas[top:bottom, left:right] == RED).all()
    canvas[top:bottom, left:right] = CANVAS
    assert (canvas == CANVAS).all()


def test_the_canvas_is_about_0_for_the_network() -> None:
    square = torch.full((1, 1, 1, 3), 0, dtype=torch.uint8)
    square[:] = torch.tensor(CANVAS, dtype=torch.uint8)
    assert PADDING.canvas == CANVAS
    assert normalise(square, PADDING).abs().max() < 0.5 / 255 / min(PADDING.std)


@pytest.mark.parametrize("size", [(500, 140), (140, 500), (31, 31), (2000, 41)])
@pytest.mark.parametrize("resize", [32, 33, 39, 40])
def test_the_central_square_shows_a_padded_image_whole(size: tuple[int, int], resize: int) -> None:
    """It is what Pillow makes of the image alone, whatever the canvas."""
    encoded = jpeg(3, *size)
    square = central_square(encoded, "x", replace(PADDING, resize=resize))
    assert (square.dtype, square.shape) == (np.uint8, (32, 32, 3))
    width, height = (max(1, 32 * length // max(size)) for length in size)
    alone = decode(encoded, "x").resize((width, height), Image.Resampling.BILINEAR)
    left, top = (32 - width) // 2, (32 - height) // 2
    assert np.array_equal(square[top : top + height, left : left + width], np.asarray(alone))
