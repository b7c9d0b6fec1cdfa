"""One image: decoded, resized, cropped."""

import io
import re
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from pipeline.base.errors import UserError
from pipeline.data.depth import UnreadableError, colour_to_8_bits, grey_to_8_bits, samples_of
from pipeline.data.signatures import AVIF, HEIC, NOT_READ, beginning_of, kind_of

# Pillow knows more formats, some of which start other programs (EPS). PPM is PGM, PBM, PNM too.
FORMATS: tuple[str, ...] = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
HEIF_READER = ""  # version of the optional package that reads HEIC
with suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS = (*FORMATS, "HEIF")
    HEIF_READER = f"{pillow_heif.__version__} {pillow_heif.libheif_version()}"

# What Pillow says of a file that ends too early, and where it does not know.
CUT_SHORT = "truncated|not enough image data|EOF|only got"
UNCLEAR = "data stream|cannot load this image|could not create decoder|decoder error|token too long"
LARGEST_RATIO = 50  # long to short side; a longer image would fill the memory when it is resized


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes what the network sees, apart from the random part of training.

    Attributes:
        resize: short side of an image after resizing, pixels; with fit pad, side of the canvas.
        crop: side of the square that the network sees, pixels.
        mean, std: of the three channels, subtracted from RGB in 0..1, and divided by.
        fit: crop, or pad: the whole image, as large as fits into the square that the network sees,
            on a canvas of the mean's colour.
    """

    resize: int
    crop: int
    mean: list[float]
    std: list[float]
    fit: str = "crop"

    @property
    def canvas(self) -> tuple[int, int, int]:
        """The mean as RGB, 0 to 255: what the network sees as about 0."""
        red, green, blue = (round(255 * channel) for channel in self.mean)
        return red, green, blue


@dataclass(frozen=True)
class Examined:
    """What can be said of some bytes as an image.

    Attributes:
        is_image: whether they begin as an image does, readable or not.
        fault: why it cannot be read, for people; empty if it can.
        scaled: how its values became 8 bits, for people; empty if they were.
    """

    is_image: bool
    fault: str = ""
    scaled: str = ""


def decode(encoded: bytes, name: str) -> Image.Image:
    """Decode an image as RGB.

    It is turned upright as its EXIF orientation says, and transparent parts become white. Of an
    animation this is the first frame. More than 8 bits a channel become 8 as
    pipeline/data/depth.py says.

    Args:
        name: of the image, for messages.

    Raises:
        UserError: not an image, damaged, or far too large.
    """
    try:
        return _decode(encoded)[0]
    except UnreadableError as reason:
        raise UserError(f"{name}: not a readable image ({reason})") from None


def examine(encoded: bytes) -> Examined:
    """Whether some bytes are an image that :func:`decode` reads, and if not, why; never raises.

    It decodes the whole image. For ``is_image`` alone the first 256 bytes are enough.
    """
    try:
        return Examined(True, scaled=_decode(encoded)[1])
    except UnreadableError as reason:
        if kind_of(encoded) or not encoded:
            return Examined(bool(encoded), fault=str(reason))
        return Examined(False, fault=f"not an image ({reason})")


def _decode(encoded: bytes) -> tuple[Image.Image, str]:
    """An image as RGB, and how its values became 8 bits, if they were not.

    Raises:
        UnreadableError: whatever is wrong.
    """
    try:
        opened = _open(encoded)
        samples = samples_of(opened)
        opened.load()
        if max(opened.size) > LARGEST_RATIO * min(opened.size):
            size = f"{opened.width:,} x {opened.height:,} pixels"
            raise UnreadableError(f"{size}: longer than {LARGEST_RATIO} times its width")
        scaled = colour_to_8_bits(opened, samples, lambda: _open(encoded))
        image: Image.Image = opened
        with suppress(Exception):  # damaged EXIF raises all kinds of errors (Pillow 8348, 8965)
            image = ImageOps.exif_transpose(image)
        if image.mode == "F" or image.mode.startswith("I"):
            image, scaled = grey_to_8_bits(image, samples)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB"), scaled
    except UnreadableError:
        raise
    except Exception as error:  # Pillow raises all kinds of errors, depending on the bytes
        raise UnreadableError(_reason(error, encoded)) from None


def _open(encoded: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(encoded), formats=FORMATS)


def _reason(error: Exception, encoded: bytes) -> str:
    """What an error of Pillow means, for people."""
    kind = kind_of(encoded)
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())[:200]
    if not encoded:
        return "an empty file"
    if not kind:
        return beginning_of(encoded)
    if kind == HEIC and not HEIF_READER:
        return f"{kind}: install pillow-heif (pip install pillow-heif), or convert it"
    if kind == AVIF and not features.check("avif"):
        return f"{kind}: this Pillow cannot read it; convert it to PNG or JPEG"
    if kind in NOT_READ and kind != HEIC:
        return f"{kind}: convert it to PNG or JPEG"
    if isinstance(error, Image.DecompressionBombError):
        pixels, limit = (f"{int(number):,}" for number in re.findall(r"\d+", text)[:2])
        return f"{pixels} pixels: more than {limit}"
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, UnidentifiedImageError):
        return _why_unidentified(encoded, kind)
    if re.search(CUT_SHORT, text, re.IGNORECASE):
        return "cut short"
    if re.search(UNCLEAR, text, re.IGNORECASE):
        return "damaged or cut short"
    return f"damaged: {text or type(error).__name__}"


def _why_unidentified(encoded: bytes, kind: str) -> str:
    """Why Pillow takes none of the formats for that of an image of some kind."""
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept and accept(encoded[:16]) is True:
            try:
                factory(io.BytesIO(encoded), "")
            except SyntaxError as error:
                if "unknown pixel mode" in str(error):
                    return f"{kind} with samples that Pillow cannot read; convert it to PNG or JPEG"
            except Exception:
                continue
    return "damaged or cut short"


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


def pad(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """An image whose longer side has ``crop`` pixels, on a canvas of ``resize`` pixels a side.

    Bilinear, antialiased. It stands in the middle of the canvas's central square, which so shows
    the whole image.
    """
    side = preprocessing.crop
    longer = max(image.size)
    width, height = (max(1, int(side * length / longer)) for length in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (preprocessing.resize, preprocessing.resize), preprocessing.canvas)
    top, left = centre(canvas.height, canvas.width, side)
    canvas.paste(scaled, (left + (side - width) // 2, top + (side - height) // 2))
    return canvas


def fitted(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """An image resized as ``preprocessing`` says, from which squares are then cut."""
    if preprocessing.fit == "pad":
        return pad(image, preprocessing)
    return resize(image, preprocessing.resize)


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
    image = fitted(decode(encoded, name), preprocessing)
    return np.array(central(image, preprocessing.crop))
