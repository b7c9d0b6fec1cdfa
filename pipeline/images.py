"""Pictures: decoded and resized once, packed into one file per split, read back one by one.

A split is two files: ``NAME.npy``, the pixels of all its pictures one behind another (uint8 [bytes]: RGB, rows from
the top), and ``NAME.csv``, a row a picture: id, label, offset (of its first byte), height, width.
"""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.arrays import ArrayReader, ArrayWriter
from pipeline.runtime import UserError

SPLITS = ("train", "val", "test")

Item = TypeVar("Item")
Result = TypeVar("Result")


def decode(jpeg: bytes, name: str) -> Image.Image:
    """An encoded picture as RGB.

    Raises:
        UserError: not a picture, or damaged; ``name`` is in the message.
    """
    try:
        return Image.open(io.BytesIO(jpeg)).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{name}: not a readable picture ({error}); download the archive again") from None


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


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``map`` on threads (Pillow decodes and resizes outside the interpreter lock), results in the order of the items.

    Reads only a few items ahead, so memory stays bounded however many there are.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pack(
    pictures: Iterable[tuple[int, str, bytes]],
    crop_of: Callable[[int], int | None],
    file_of: Callable[[int], ArrayWriter],
    short_side: int,
    workers: int,
) -> pd.DataFrame:
    """Decode, resize and append every picture to the file of its split; the same bytes for any number of workers.

    Args:
        pictures: id, name (for messages) and encoded bytes of each.
        crop_of: side of the central square to keep of a picture, by its id; None keeps all of it.
        file_of: the file it goes to, by its id.

    Returns:
        One row a picture: id, offset (bytes), height, width (pixels), in the order they came.

    Raises:
        UserError: a picture cannot be decoded.
    """

    def shrink(picture: tuple[int, str, bytes]) -> tuple[int, Image.Image]:
        number, name, encoded = picture
        image, crop = resize(decode(encoded, name), short_side), crop_of(picture[0])
        if crop is not None:
            top, left = centre(image.height, image.width, crop)
            image = image.crop((left, top, left + crop, top + crop))
        return number, image

    places = []
    for number, image in parallel_map(shrink, pictures, workers):
        file = file_of(number)
        places.append((number, file.length, image.height, image.width))
        file.append(np.asarray(image).reshape(-1))
    return pd.DataFrame(places, columns=["id", "offset", "height", "width"])


class Split:
    """One packed split.

    Attributes:
        name: of the split.
        ids, labels: int64 arrays [n], in the order of the index.
    """

    def __init__(self, directory: Path, name: str) -> None:
        """Read ``directory/name.csv``; ``directory/name.npy`` is opened when the first picture is asked for."""
        self.name, self._file = name, directory / f"{name}.npy"
        index = pd.read_csv(directory / f"{name}.csv")
        self.ids = index["id"].to_numpy(copy=True)  # copies, for torch takes writable arrays only
        self.labels = index["label"].to_numpy(copy=True)
        self._places = index[["offset", "height", "width"]].to_numpy()

    @cached_property
    def _pixels(self) -> ArrayReader:
        pixels = ArrayReader(self._file)
        if pixels.shape != ((self._places[:, 1] * self._places[:, 2] * 3).sum(),):
            raise UserError(f"{self._file}: {pixels.shape[0]:,} bytes do not fit its index; run dvc repro prepare")
        return pixels

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, row: int) -> np.ndarray:
        """Picture ``row``: uint8 [height, width, 3].

        Raises:
            UserError: the file of pixels is damaged or does not belong to the index.
        """
        offset, height, width = self._places[row]
        return self._pixels.read(offset, height * width * 3).reshape(height, width, 3)

    def central(self, rows: Iterable[int], crop: int) -> np.ndarray:
        """The central squares of the pictures ``rows``: uint8 [len(rows), crop, crop, 3]."""
        squares = []
        for image in map(self.image, rows):
            top, left = centre(image.shape[0], image.shape[1], crop)
            squares.append(image[top : top + crop, left : left + crop])
        return np.stack(squares)
