"""Pictures: decoded and resized once, packed into one file per split, read back by memory map.

A split is two files: ``NAME.bin``, the pixels of all its pictures one behind another (uint8, RGB, rows from the
top), and ``NAME.csv``, a row a picture: id, label, offset (of its first byte), height, width.
"""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.runtime import UserError

if TYPE_CHECKING:
    import torch

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
    file_of: Callable[[int], BinaryIO],
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
        places.append((number, file.tell(), image.height, image.width))
        file.write(image.tobytes())
    return pd.DataFrame(places, columns=["id", "offset", "height", "width"])


class Split:
    """One packed split, memory-mapped.

    Attributes:
        ids, labels: int64 arrays [n], in the order of the index.
        index: the whole index, a row a picture.
    """

    def __init__(self, directory: Path, name: str) -> None:
        """Open ``directory/name.bin`` and ``directory/name.csv``.

        Raises:
            UserError: the two do not belong together.
        """
        self.index = pd.read_csv(directory / f"{name}.csv")
        self.ids = self.index["id"].to_numpy(copy=True)  # copies, for torch takes writable arrays only
        self.labels = self.index["label"].to_numpy(copy=True)
        self._places = self.index[["offset", "height", "width"]].to_numpy()
        self._pixels = np.memmap(directory / f"{name}.bin", dtype=np.uint8, mode="r")
        if len(self._pixels) != (self.index["height"] * self.index["width"] * 3).sum():
            raise UserError(
                f"{directory / name}.bin: {len(self._pixels):,} bytes do not fit its index; run dvc repro prepare"
            )

    def __len__(self) -> int:
        return len(self.index)

    def image(self, row: int) -> np.ndarray:
        """Picture ``row``: uint8 [height, width, 3], a read-only view of the file."""
        offset, height, width = self._places[row]
        return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def central(self, rows: Iterable[int], crop: int) -> np.ndarray:
        """The central squares of the pictures ``rows``: uint8 [len(rows), crop, crop, 3]."""
        squares = []
        for image in map(self.image, rows):
            top, left = centre(image.shape[0], image.shape[1], crop)
            squares.append(image[top : top + crop, left : left + crop])
        return np.stack(squares)


BATCH = 64  # pictures per forward pass without gradient


def chunks(count: int, size: int) -> list[np.ndarray]:
    """The rows 0..count-1 in order, ``size`` at a time (the last may be fewer)."""
    return np.split(np.arange(count), range(size, count, size))


def normalise(images: np.ndarray, mean: list[float], std: list[float], device: "torch.device") -> "torch.Tensor":
    """uint8 pictures [n, height, width, 3] as the network's input on ``device``.

    Returns:
        float32 [n, 3, height, width] in channels-last memory, (pixel / 255 - mean) / std, computed in the order of
        torchvision's ``ToTensor`` and ``Normalize``.
    """
    import torch

    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    shape = (3, 1, 1)
    return tensor.sub_(tensor.new_tensor(mean).view(shape)).div_(tensor.new_tensor(std).view(shape))
