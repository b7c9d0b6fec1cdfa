"""Views: the random crop and flip (augmentation) of an image in training, its central square else.

Nothing is drawn from a running generator. Every random choice has an address, (purpose, seed,
epoch, image id), so it is the same whatever ran before: another batch size, a resumed run, more
workers.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.images import Preprocessing, centre
from pipeline.data.pixels import Pixels

VIEW = 0  # purpose of a random address; pipeline/training/ has the others
EVALUATION = 0  # in place of the epoch, which counts from 1


@dataclass(frozen=True)
class Augmentation:
    """What is random about the views of training.

    Attributes:
        flip: probability that a view is mirrored.
        side: of the random squares, pixels; that of the central squares may be another.
    """

    seed: int
    flip: float
    side: int


@dataclass(frozen=True)
class Crop:
    """The square of an image that a view shows, in pixels, and whether it is mirrored."""

    top: int
    left: int
    side: int
    mirrored: bool


def random_crop(
    seed: int, epoch: int, image_id: int, height: int, width: int, side: int, flip: float
) -> Crop:
    """Random square of ``side`` pixels of one image in one epoch.

    Uniform over all positions, as ``torchvision.transforms.RandomCrop``.
    """
    random = np.random.default_rng([VIEW, seed, epoch, image_id])
    top = int(random.integers(height - side + 1))
    left = int(random.integers(width - side + 1))
    return Crop(top, left, side, bool(random.random() < flip))


class Views:
    """What the network sees of the images of a split.

    Attributes:
        pixels: the decoded images.
        device: where the views are.
    """

    def __init__(
        self,
        pixels: Pixels,
        device: torch.device,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Views on ``device``.

        Args:
            augmentation: of training; None if there are to be views of evaluation only.
        """
        self.pixels = pixels
        self.device = device
        self._augmentation = augmentation
        self._on_device: DevicePixels | None = None

    def __len__(self) -> int:
        return len(self.pixels.split)

    def prepare(self) -> None:
        """Decode what is not decoded; on CUDA keep the split's bytes in the device's memory.

        To be called before several threads ask for views.
        """
        if self.device.type != "cuda":
            self.pixels.image(0)
        elif self._on_device is None:
            free, _ = torch.cuda.mem_get_info(self.device)
            if self.pixels.largest_size() < free / 2:
                self._on_device = DevicePixels(self.pixels, self.device)

    def batch(self, rows: np.ndarray, epoch: int) -> Tensor:
        """The network's input for the images ``rows`` (int64 [n]).

        Args:
            epoch: of training, from 1; or ``EVALUATION``, for central squares.

        Returns:
            float32 [n, 3, side, side] in channels-last memory, on the device.
        """
        return normalise(self.squares(rows, epoch), self.pixels.preprocessing)

    def squares(self, rows: np.ndarray, epoch: int) -> Tensor:
        """The pixels that :meth:`batch` normalises: uint8 [n, side, side, 3] on the device."""
        if self._on_device:
            shapes = self._on_device.shapes(rows)
            crops = [
                self._crop(row, epoch, *shape) for row, shape in zip(rows, shapes, strict=True)
            ]
            return self._on_device.cut(rows, crops)
        side = self._side(epoch)
        squares = np.empty((len(rows), side, side, 3), np.uint8)
        for square, row in zip(squares, rows, strict=True):
            image = self.pixels.image(row)
            square[:] = cut(image, self._crop(row, epoch, image.shape[0], image.shape[1]))
        return to_device(torch.from_numpy(squares), self.device)

    def key(self, start: int, stop: int, epoch: int) -> dict[str, Any]:
        """All that determines the views of the images ``start`` to ``stop``, for the cache."""
        key = self.pixels.key(start, stop) | asdict(self.pixels.preprocessing)
        if epoch == EVALUATION:
            return key
        assert self._augmentation is not None
        return key | {
            "ids": self.pixels.split.ids[start:stop].tolist(),
            "epoch": epoch,
            "seed": self._augmentation.seed,
            "flip": self._augmentation.flip,
            "side": self._augmentation.side,
        }

    def _side(self, epoch: int) -> int:
        if epoch == EVALUATION:
            return self.pixels.preprocessing.crop
        assert self._augmentation is not None
        return self._augmentation.side

    def _crop(self, row: int, epoch: int, height: int, width: int) -> Crop:
        side = self._side(epoch)
        if epoch == EVALUATION:
            top, left = centre(height, width, side)
            return Crop(top, left, side, False)
        assert self._augmentation is not None
        image_id = int(self.pixels.split.ids[row])
        seed = self._augmentation.seed
        return random_crop(seed, epoch, image_id, height, width, side, self._augmentation.flip)


class DevicePixels:
    """The pixels of a whole split as bytes in a device's memory; crops are cut there.

    The same integers as :func:`cut` makes on the CPU (a test compares them).
    """

    def __init__(self, pixels: Pixels, device: torch.device) -> None:
        images = [pixels.image(row) for row in range(len(pixels.split))]
        self._shapes = np.array([image.shape[:2] for image in images])
        sizes = self._shapes.prod(axis=1)
        self._starts = np.concatenate([[0], sizes.cumsum()[:-1]])
        flat = np.concatenate([image.reshape(-1, 3) for image in images])
        self._pixels = torch.from_numpy(flat).to(device)

    def shapes(self, rows: np.ndarray) -> list[tuple[int, int]]:
        """Height and width of each image, pixels."""
        return [(int(height), int(width)) for height, width in self._shapes[rows]]

    def cut(self, rows: np.ndarray, crops: list[Crop]) -> Tensor:
        """Equally large crops of the images ``rows``: uint8 [n, side, side, 3]."""
        device = self._pixels.device
        side = crops[0].side
        numbers = np.array([(crop.top, crop.left, crop.mirrored) for crop in crops])
        columns = np.stack([self._starts[rows], self._shapes[rows, 1], *numbers.T])
        starts, widths, tops, lefts, mirrored = to_device(torch.from_numpy(columns), device)
        y = tops[:, None] + torch.arange(side, device=device)
        x = torch.arange(side, device=device).expand(len(rows), side)
        x = torch.where(mirrored[:, None].bool(), side - 1 - x, x) + lefts[:, None]
        places = starts[:, None, None] + y[:, :, None] * widths[:, None, None] + x[:, None, :]
        return self._pixels[places]


def cut(image: np.ndarray, crop: Crop) -> np.ndarray:
    """A crop of an image [height, width, 3]."""
    part = image[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    return part[:, :: -1 if crop.mirrored else 1]


def normalise(squares: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 images [n, height, width, 3] as the network's input, on the same device.

    Returns:
        float32 [n, 3, height, width] in channels-last memory, (pixel / 255 - mean) / std, computed
        in the order of torchvision's ``ToTensor`` and ``Normalize``.
    """
    tensor = squares.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    shape = (3, 1, 1)
    tensor.sub_(tensor.new_tensor(preprocessing.mean).view(shape))
    return tensor.div_(tensor.new_tensor(preprocessing.std).view(shape))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; to CUDA from pinned memory, while the device computes."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def chunks(start: int, stop: int, size: int) -> list[np.ndarray]:
    """The rows from ``start`` to ``stop`` in order, ``size`` at a time (the last may be fewer)."""
    return [np.arange(first, min(first + size, stop)) for first in range(start, stop, size)]
