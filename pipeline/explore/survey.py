"""One look at every image of a split: digests of its pixels, and what can be measured of it."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.base.parallel import parallel_map
from pipeline.data.images import FORMATS, Preprocessing, centre
from pipeline.data.pixels import Pixels

MOST = 0.99  # shares of the pixels, so that a few of another kind do not count
FEW = 0.05
STEP = 4  # colours are measured on every fourth pixel of every fourth row
# What `measure` gives, and the size of the original.
MEASURES = ["brightest", "darkest", "sharpness", "colour"]
COLUMNS = ["width", "height", *MEASURES]


@dataclass(frozen=True)
class Survey:
    """What one pass over the images of a split gives.

    Attributes:
        pixels_sha256: of the pixels of all images, in order, hex.
        squares: of each image the SHA-256 of its central square.
        measures: a row an image: width and height (of the original as its file stores it, pixels),
            and what :func:`measure` gives.
    """

    pixels_sha256: str
    squares: list[bytes]
    measures: pd.DataFrame


def survey(pixels: Pixels, workers: int) -> Survey:
    """Look at each image of a split once.

    Args:
        workers: threads; any number gives the same.

    Raises:
        UserError: images cannot be decoded.
    """
    archive = pixels.archive()
    preprocessing = pixels.preprocessing
    side = preprocessing.crop
    pixels.image(0)  # decodes the split, if the cache has room for it

    def look(row: int) -> tuple[np.ndarray, bytes, list[float]]:
        image = np.ascontiguousarray(pixels.image(row))
        top, left = centre(image.shape[0], image.shape[1], side)
        square = np.ascontiguousarray(image[top : top + side, left : left + side])
        size = original_size(archive.read(pixels.split.members[row]))
        content = without_canvas(square, preprocessing)
        return image, hashlib.sha256(square.data).digest(), [*size, *measure(content)]

    every = hashlib.sha256()
    squares = []
    rows = []
    for image, square, row in parallel_map(look, range(len(pixels.split)), workers):
        every.update(image.data)
        squares.append(square)
        rows.append(row)
    return Survey(every.hexdigest(), squares, pd.DataFrame(rows, columns=COLUMNS))


def original_size(encoded: bytes) -> tuple[int, int]:
    """Width and height of an encoded image as its header says, in pixels; nothing is decoded."""
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        return image.size


def without_canvas(square: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """The part of a central square (uint8 [side, side, 3]) that images padded to it fill."""
    if preprocessing.fit != "pad":
        return square
    is_image = (square != np.array(preprocessing.canvas, np.uint8)).any(axis=2)
    rows = np.flatnonzero(is_image.any(axis=1))
    columns = np.flatnonzero(is_image.any(axis=0))
    if not len(rows):  # an image of the canvas's colour
        return square
    return square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def measure(square: np.ndarray) -> tuple[float, float, float, float]:
    """What can be said of a square without knowing what it shows.

    Args:
        square: uint8 [height, width, 3], RGB.

    Returns:
        brightest: largest of R, G and B, which 99 % of the pixels do not exceed; darkest: smallest
        of R, G and B, which 5 % do not exceed; sharpness: variance of the Laplacian of the grey
        image in 0..255; colour: largest less smallest of R, G and B, which 99 % do not exceed. All
        but the sharpness are in 0..1. Computed in integers, so that it depends on no machine.
    """
    few = square[::STEP, ::STEP]
    red, green, blue = few[..., 0], few[..., 1], few[..., 2]
    largest = np.maximum(np.maximum(red, green), blue)
    smallest = np.minimum(np.minimum(red, green), blue)
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(square)).convert("L"))
    return (
        _not_exceeded(largest, MOST),
        _not_exceeded(smallest, FEW),
        _laplacian_variance(grey),
        _not_exceeded(largest - smallest, MOST),
    )


def _not_exceeded(values: np.ndarray, share: float) -> float:
    """The value in 0..255 that a share of ``values`` does not exceed, as a fraction of 255."""
    counts = np.cumsum(np.bincount(values.ravel(), minlength=256))
    return int(np.searchsorted(counts, share * counts[-1])) / 255


def _laplacian_variance(grey: np.ndarray) -> float:
    """Variance of what is left of each pixel (uint8 [h, w]) when its four neighbours are taken."""
    if min(grey.shape) < 3:
        return 0.0
    values = grey.astype(np.int32)
    middle = values[1:-1, 1:-1]
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    edges = around - 4 * middle
    squares = int((edges * edges).sum(dtype=np.int64))
    total = int(edges.sum(dtype=np.int64))
    return squares / edges.size - (total / edges.size) ** 2
