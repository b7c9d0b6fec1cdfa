"""Images: decoded, resized, cropped."""

import io

from PIL import Image

from pipeline.base.errors import UserError


def decode(jpeg: bytes, name: str) -> Image.Image:
    """An encoded image as RGB.

    Raises:
        UserError: not an image, or damaged; ``name`` is in the message.
    """
    try:
        return Image.open(io.BytesIO(jpeg)).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{name}: not a readable image ({error})") from None


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
