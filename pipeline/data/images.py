"""One image: decoded, resized, cropped."""

import io
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.base.errors import UserError

# Pillow knows more formats, some of which start other programs (EPS).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
LARGEST_RATIO = 50  # long to short side; a longer image would fill the memory when it is resized


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes what the network sees, apart from the random part of training.

    Attributes:
        resize: short side of an image after resizing, pixels.
        crop: side of the square that the network sees, pixels.
        mean, std: of the three channels, subtracted from RGB in 0..1, and divided by.
    """

    resize: int
    crop: int
    mean: list[float]
    std: list[float]


def decode(encoded: bytes, name: str) -> Image.Image:
    """Decode an image as RGB.

    It is turned upright as its EXIF orientation says, and transparent parts become white. Of an
    animation this is the first frame.

    Args:
        name: of the image, for messages.

    Raises:
        UserError: not an image, damaged, or far too large.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        image.load()
        if max(image.size) > LARGEST_RATIO * min(image.size):
            raise ValueError(f"{image.width} x {image.height} pixels")
        with suppress(Exception):  # damaged EXIF raises all kinds of errors (Pillow 8348, 8965)
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            image = _to_8_bits(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except Exception as error:  # Pillow raises all kinds of errors, depending on the bytes
        reason: object = error
        if isinstance(error, UnidentifiedImageError):
            reason = f"none of {', '.join(FORMATS)}"
        raise UserError(f"{name}: not a readable image ({reason})") from None


def _to_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits, scaled to 8 (Pillow would clip it at 255)."""
    grey = np.asarray(image, np.float32) / 257
    return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))


def resize(image: Image.Image, short_side: int) -> Image.Image:
    """Scale an image so that its shorter side has ``short_side`` pixels; bilinear, antialiased.

    The pixels are those of ``torchvision.transforms.Resize(short_side)`` on a PIL image (a test
    compares them), without importing torch.
    """
    width, height = image.size
    if width <= height:
        size = (short_side, int(short_side * height / width))
    else:
        size = (int(short_side * width / height), short_side)
    return image.resize(size, Image.Resampling.BILINEAR)


def centre(height: int, width: int, crop: int) -> tuple[int, int]:
    """Top and left of the central square, rounded as ``torchvision.transforms.CenterCrop``."""
    return round((height - crop) / 2), round((width - crop) / 2)


def central(image: Image.Image, crop: int) -> Image.Image:
    """The central square of an image, ``crop`` pixels wide: torchvision's CenterCrop."""
    top, left = centre(image.height, image.width, crop)
    return image.crop((left, top, left + crop, top + crop))


def central_square(encoded: bytes, name: str, preprocessing: Preprocessing) -> np.ndarray:
    """The part of an encoded image that evaluation and prediction see: uint8 [crop, crop, 3].

    Raises:
        UserError: as :func:`decode`.
    """
    image = resize(decode(encoded, name), preprocessing.resize)
    return np.array(central(image, preprocessing.crop))
