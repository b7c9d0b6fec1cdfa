"""Images of more than 8 bits a channel as images of 8, each by what it holds itself.

- Whole numbers: black is 0. White is the smallest of 255, 4,095 and 65,535 that holds the largest
  value, because cameras and programs write 8 or 12 bits into 16; beyond that it is the largest
  value. Where the file says that white is less than 65,535 (PGM, TIFF of 12 bits), it is that.
- Floats: white is 1 if all values are below 2 (those above 1 are white too); otherwise as for
  whole numbers.
- Negative values: black is the smallest value of the image, white the largest.

The example programs in docs/ do the same. Pillow itself would clip grey at 255, and of colour take
the upper 8 bits of 16, which are black where only 12 are used.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile

WHITES = (255, 4095, 65535)
# Other order of the two bytes of a sample: what Pillow then takes for the upper 8 bits are the
# lower ones.
SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
# By the names of Pillow's modes in a file: those whose lower bytes can be read in this way.
SWAPPABLE = {f"{mode};16{order}" for mode in ("RGB", "RGBA", "RGBX") for order in SWAPPED}
GREY_AND_ALPHA = "LA;16B"  # of PNG
COLOUR = ("RGB", "RGBA", "CMYK")  # Pillow's modes
UPPER_BITS = "16-bit values up to 65,535: their upper 8 bits"

Reopen = Callable[[], ImageFile.ImageFile]


class UnreadableError(Exception):
    """Why an image cannot be read, for people."""


@dataclass(frozen=True)
class Samples:
    """What a file says of its samples before Pillow makes pixels of them.

    Attributes:
        format: Pillow's name of the file's format.
        rawmode: Pillow's name of the form of the samples in the file.
        bits: of a sample in the file: 16 or 32, otherwise 8.
        white: the largest value that a sample can have, if the file says it and it is not that of
            its bits.
        is_unsigned: no sample is negative, which Pillow does not heed for 32 bits.
        is_inverted: 0 is white, which Pillow does not heed for more than 8 bits.
        is_planar: one channel comes behind another.
    """

    format: str
    rawmode: str
    bits: int
    white: int | None = None
    is_unsigned: bool = False
    is_inverted: bool = False
    is_planar: bool = False


def samples_of(image: ImageFile.ImageFile) -> Samples:
    """The samples of an image that is opened and not yet loaded.

    Raises:
        UnreadableError: they are in a form that Pillow misreads.
    """
    kind = image.format or ""
    codec, _, _, args = image.tile[0] if image.tile else ("", (), 0, "")
    rawmode = str(args[0] if isinstance(args, tuple) else args)
    if kind == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        in_file = int(tags.get(258, (1,))[0])
        samples = Samples(
            kind,
            rawmode,
            bits=8 if in_file <= 8 else 16 if in_file <= 16 else 32,
            white=4095 if in_file == 12 else None,
            is_unsigned=tags.get(339, (1,))[0] == 1,
            is_inverted=tags.get(262) == 0,
            is_planar=tags.get(284) == 2,
        )
        if samples.bits == 16 and samples.is_planar and codec == "raw" and image.mode in COLOUR:
            raise UnreadableError(
                "16-bit colours, one behind another, which Pillow misreads; convert it to PNG"
            )
        return samples
    if kind == "PPM" and codec.startswith("ppm") and isinstance(args, tuple):
        white = int(args[-1])
        bits = 16 if white > 255 else 8
        return Samples(kind, rawmode, bits, white if bits == 16 and white < 65535 else None)
    is_deep = ";16" in rawmode or image.mode.startswith("I;16")
    return Samples(kind, rawmode, bits=16 if is_deep else 8)


def scale(values: np.ndarray, white: int | None = None) -> tuple[np.ndarray, str]:
    """Values as 8 bits, by the rule above, and the rule in words.

    Args:
        values: of one image, whole numbers or floats, of any shape.
        white: the value of white, if the file says it.

    Returns:
        uint8 of the same shape; and, for example, "values up to 4,095: divided by 4,095".

    Raises:
        UnreadableError: some are not numbers.
    """
    is_float = values.dtype.kind == "f"
    if is_float and not np.isfinite(values).all():
        raise UnreadableError("holds values that are not numbers (NaN or infinite)")
    black, largest = min(float(values.min()), 0.0), float(values.max())
    likely = next((value for value in WHITES if largest <= value), None)
    top: float
    if black < 0:
        top = largest
        how = "values, some negative: stretched from the smallest to the largest of the image"
    elif is_float and largest < 2:
        top = 1
        how = "values from 0 to 1: multiplied by 255"
    elif known := white or likely:
        top = known
        how = "values up to 255: taken as they are" if known == 255 else _divided_by(known)
    else:
        top = largest
        how = "values: divided by the largest of the image"
    scaled = values.astype(np.float64)
    scaled -= black
    scaled *= 255 / ((top - black) or 1)
    np.rint(scaled, out=scaled)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8), how


def grey_to_8_bits(image: Image.Image, samples: Samples) -> tuple[Image.Image, str]:
    """A grey image of whole numbers or floats as one of 8 bits, and how it was scaled.

    Args:
        image: loaded; of one of Pillow's modes I;16 (in any order of bytes), I and F.

    Raises:
        UnreadableError: as :func:`scale`.
    """
    values = np.asarray(image)
    if samples.format == "PPM" and samples.white:  # Pillow has made it 65,535
        grey, _ = scale(values, 65535)
        how = _divided_by(samples.white)
    elif image.mode == "I" and samples.bits == 32 and samples.is_unsigned:
        grey, how = scale(values.view(np.uint32))
    else:
        grey, how = scale(values, samples.white)
    if samples.is_inverted:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255  # white, as decode makes it
    kind = "floating-point" if image.mode == "F" else f"{samples.bits}-bit"
    return Image.fromarray(grey), f"{kind} {how}"


def colour_to_8_bits(image: Image.Image, samples: Samples, reopen: Reopen) -> str:
    """Scale a colour image of 16 bits, in place, where its upper 8 bits do not tell it all.

    They do not if only the lower 12 are used, or if one of its colours stands for transparency.

    Args:
        image: loaded: the upper 8 bits.
        reopen: opens it again, without loading it.

    Returns:
        How it was scaled; empty for an image of 8 bits.

    Raises:
        UnreadableError: its lower bits are needed and Pillow does not give them.
    """
    if samples.bits != 16 or image.mode not in COLOUR:
        return ""
    if samples.white:
        return f"16-bit {_divided_by(samples.white)}"
    upper = np.array(image)
    transparent = image.info.pop("transparency", None)
    is_dark = upper[..., :3].max() <= 4095 / 257 + 0.5 and image.mode != "CMYK"
    if not is_dark and not transparent:
        return UPPER_BITS
    is_swappable = samples.rawmode in (*SWAPPABLE, GREY_AND_ALPHA) and not samples.is_planar
    if not is_swappable and samples.format != "PPM":
        raise UnreadableError(
            "16-bit colours of which only 12 bits are used, in a form of which Pillow gives the "
            "upper 8 alone; convert it to PNG"
        )
    values = _all_bits(upper, samples, reopen)
    colours, how = scale(values[..., :3])
    if values[..., :3].max() > WHITES[1]:
        colours, how = upper[..., :3], ""
    if transparent:
        colours[(values == transparent).all(axis=2)] = 255  # white, as decode makes it
    bands = [colours]
    if values.shape[2] == 4:
        alpha = values[..., 3:]
        bands.append(scale(alpha)[0] if alpha.max() <= WHITES[1] else upper[..., 3:])
    image.paste(Image.fromarray(np.concatenate(bands, axis=2)))
    return f"16-bit {how}" if how else UPPER_BITS


def _all_bits(upper: np.ndarray, samples: Samples, reopen: Reopen) -> np.ndarray:
    """The samples of a colour image of 16 bits: uint16 [height, width, 3 or 4]."""
    image = reopen()
    height, width, _ = upper.shape
    if samples.format == "PPM":  # as grey, three times as wide, Pillow reads all bits
        image._mode = "I"
        image._size = (3 * width, height)
        image.tile = [tile._replace(extents=(0, 0, *image.size)) for tile in image.tile]
        return np.asarray(image).reshape(height, width, 3).astype(np.uint16)
    if samples.rawmode == GREY_AND_ALPHA:  # as colour of 8 bits, Pillow reads all four bytes
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        pairs = np.asarray(image).astype(np.uint16)
        grey = pairs[..., 0] * 256 + pairs[..., 1]
        alpha = pairs[..., 2] * 256 + pairs[..., 3]
        return np.stack([grey, grey, grey, alpha], axis=2)
    swapped = samples.rawmode[:-1] + SWAPPED[samples.rawmode[-1]]
    image.tile = [
        tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
        for tile in image.tile
    ]
    return upper.astype(np.uint16) * 256 + np.asarray(image)


def _divided_by(white: int) -> str:
    return f"values up to {white:,}: divided by {white:,}"
