"""Images: decoded, resized, cropped."""

import io
from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.base.errors import UserError

# Of the formats that Pillow knows, some start programs (EPS).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
LONGEST = 50  # times as long as wide is no photograph, and would fill the memory when it is resized


def decode(encoded: bytes, name: str) -> Image.Image:
    """An encoded image as RGB: upright by its EXIF orientation, transparent on white, the first of several frames.

    Raises:
        UserError: not an image, damaged, or far too large; ``name`` is in the message.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        image.load()
        if max(image.size) > LONGEST * min(image.size):
            raise ValueError(f"{image.width} x {image.height} pixels")
        with suppress(Exception):  # damaged EXIF raises whatever its bytes lead to (Pillow 8348, 8965)
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut at 255
            image = Image.fromarray((np.asarray(image, np.float32) / 257).round().clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except Exception as error:  # Pillow raises whatever the bytes lead it into
        reason = f"none of {', '.join(FORMATS)}" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"{name}: not a readable image ({reason})") from None


def resize(image: Image.Image, short_side: int) -> Image.Image:
    """Scale so that the shorter side is ``short_side`` pixels; bilinear with antialiasing.

    The same pixels as ``torchvision.transforms.Resize(short_side)`` on a PIL image (a test holds them together),
    without importing torch.
    """
    width, height = image.size
    if width <= height:
        size = (short_side, int(short_side * height / width))
    else:
        size = (int(short_side * width / height), short_side)
    return image.resize(size, Image.Resampling.BILINEAR)


def centre(height: int, width: int, crop: int) -> tuple[int, int]:
    """Top and left of the central square, as ``torchvision.transforms.CenterCrop`` rounds them."""
    return round((height - crop) / 2), round((width - crop) / 2)


def central(image: Image.Image, crop: int) -> Image.Image:
    """The central square of an image: ``torchvision.transforms.CenterCrop``."""
    top, left = centre(image.height, image.width, crop)
    return image.crop((left, top, left + crop, top + crop))


def central_square(encoded: bytes, name: str, short_side: int, crop: int) -> np.ndarray:
    """An encoded image as evaluation and prediction see it: uint8 [crop, crop, 3].

    Raises:
        UserError: as :func:`decode`.
    """
    return np.array(central(resize(decode(encoded, name), short_side), crop))
