"""Pixels: every image decoded and resized once, packed into one file per split, read back one by one.

A split is two files: ``NAME.npy``, the pixels of all its images one behind another (uint8 [bytes]: RGB, rows from
the top), and ``NAME.csv``, a row an image: id, label, offset (of its first byte), height, width.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.base.arrays import ArrayReader, ArrayWriter
from pipeline.base.errors import UserError
from pipeline.base.parallel import parallel_map
from pipeline.data.images import central, centre, decode, resize


def pack(
    images: Iterable[tuple[int, str, bytes]],
    split_of: Mapping[int, str],
    files: Mapping[str, ArrayWriter],
    short_side: int,
    crop: int,
    workers: int,
) -> pd.DataFrame:
    """Decode, resize and append every image to the file of its split; the same bytes for any number of workers.

    Images of train stay whole, for they are cropped at random later; of the others the central square stays.

    Args:
        images: id, name (for messages) and encoded bytes of each.
        split_of: the split of each, by its id.

    Returns:
        One row an image: id, offset (bytes), height, width (pixels), in the order they came.

    Raises:
        UserError: images cannot be decoded; it names them all.
    """

    def shrink(encoded: tuple[int, str, bytes]) -> tuple[int, Image.Image | str]:
        number, name, content = encoded
        try:
            image = resize(decode(content, name), short_side)
        except UserError as error:
            return number, str(error)
        if split_of[number] != "train":
            image = central(image, crop)
        return number, image

    places, faults = [], []
    for number, image in parallel_map(shrink, images, workers):
        if isinstance(image, str):
            faults.append(image)
            continue
        file = files[split_of[number]]
        places.append((number, file.length, image.height, image.width))
        file.append(np.asarray(image).reshape(-1))
    if faults:
        raise UserError("; ".join(faults[:10]) + (f"; and {len(faults) - 10:,} more" if len(faults) > 10 else ""))
    return pd.DataFrame(places, columns=["id", "offset", "height", "width"])


class Split:
    """One packed split.

    Attributes:
        name: of the split.
        ids, labels: int64 arrays [n], in the order of the index.
    """

    def __init__(self, directory: Path, name: str) -> None:
        """Read ``directory/name.csv``; ``directory/name.npy`` is opened when the first image is asked for.

        Raises:
            UserError: no such table.
        """
        self.name, self._file, path = name, directory / f"{name}.npy", directory / f"{name}.csv"
        try:
            index = pd.read_csv(path)[["id", "label", "offset", "height", "width"]].astype("int64")
        except (KeyError, ValueError, OverflowError) as error:
            raise UserError(f"{path}: damaged ({' '.join(str(error).split())}); run dvc repro prepare") from None
        self.ids = index["id"].to_numpy(copy=True)  # copies, for torch takes writable arrays only
        self.labels = index["label"].to_numpy(copy=True)
        self._places = index[["offset", "height", "width"]].to_numpy()

    @cached_property
    def _pixels(self) -> ArrayReader:
        pixels, (offset, height, width) = ArrayReader(self._file), self._places.T
        size = height * width * 3
        inside = (offset >= 0) & (height > 0) & (width > 0) & (offset + size <= pixels.shape[0])
        if pixels.shape != (size.sum(),) or not inside.all():
            raise UserError(f"{self._file}: {pixels.shape[0]:,} bytes do not fit its index; run dvc repro prepare")
        return pixels

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def short_side(self) -> int:
        """Short side of the images as they are stored, pixels; of val and test, the side of their central squares."""
        return int(self._places[0, 1:].min())

    def image(self, row: int) -> np.ndarray:
        """Image ``row``: uint8 [height, width, 3].

        Raises:
            UserError: the file of pixels is damaged or does not belong to the index.
        """
        offset, height, width = self._places[row]
        return self._pixels.read(offset, height * width * 3).reshape(height, width, 3)

    def central(self, rows: Iterable[int], crop: int) -> np.ndarray:
        """The central squares of the images ``rows``: uint8 [len(rows), crop, crop, 3]."""
        squares = []
        for image in map(self.image, rows):
            top, left = centre(image.shape[0], image.shape[1], crop)
            squares.append(image[top : top + crop, left : left + crop])
        return np.stack(squares)


def identical(splits: Iterable[Split], crop: int) -> list[list[int]]:
    """Groups of two or more images (ids), in whatever splits, whose central squares have the same pixels."""
    groups: dict[bytes, list[int]] = {}
    for split in splits:
        for row, number in enumerate(split.ids.tolist()):
            groups.setdefault(hashlib.sha256(split.central([row], crop).tobytes()).digest(), []).append(number)
    return [numbers for numbers in groups.values() if len(numbers) > 1]
