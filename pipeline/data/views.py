"""Views: the random crop and flip (augmentation) of an image in training, its central square else.

Nothing is drawn from a running generator. Every random choice has an address, (purpose, seed,
epoch, image id), so it is the same whatever ran before: another batch size, a resumed run, more
workers.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.data.images import Preprocessing, centre
from pipeline.data.pixels import Pixels

LOG_RATIO = math.log(4 / 3)
VIEW = 0  # purpose of a random address; pipeline/training/ has the others
EVALUATION = 0  # in place of the epoch, which counts from 1


@dataclass(frozen=True)
class Augmentation:
    """What is random about the views of training.

    Attributes:
        flip: probability that a view is mirrored.
        resized_crop: side (pixels) and smallest share of the area of crops that are resized; None
            for random crops as large as the central square.
    """

    seed: int
    flip: float
    resized_crop: tuple[int, float] | None = None


@dataclass(frozen=True)
class Crop:
    """The part of an image that a view shows, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
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
    return Crop(top, left, side, side, bool(random.random() < flip))


def random_resized_crop(
    seed: int, epoch: int, image_id: int, height: int, width: int, scale: float, flip: float
) -> Crop:
    """Random part of one image in one epoch, to be resized to a square.

    As ``torchvision.transforms.RandomResizedCrop`` with ``scale=(scale, 1)`` chooses it: a share of
    the area, uniform from ``scale`` to 1, of a width 3/4 to 4/3 of the height (uniform in the
    logarithm); after ten that do not fit into the image, the largest central part of such a shape.
    """
    random = np.random.default_rng([VIEW, seed, epoch, image_id])
    mirrored = bool(random.random() < flip)
    for _ in range(10):
        area = height * width * random.uniform(scale, 1)
        ratio = np.exp(random.uniform(-LOG_RATIO, LOG_RATIO))
        h = round(np.sqrt(area / ratio))
        w = round(np.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            top = int(random.integers(height - h + 1))
            left = int(random.integers(width - w + 1))
            return Crop(top, left, h, w, mirrored)
    h = min(height, round(width * 4 / 3))
    w = min(width, round(height * 4 / 3))
    return Crop((height - h) // 2, (width - w) // 2, h, w, mirrored)


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
        self._crop_side = pixels.preprocessing.crop
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
        if self._is_resized(epoch):
            return to_device(torch.from_numpy(self._resized(rows, epoch)), self.device)
        if self._on_device:
            shapes = self._on_device.shapes(rows)
            crops = [
                self._crop(row, epoch, *shape) for row, shape in zip(rows, shapes, strict=True)
            ]
            return self._on_device.cut(rows, crops)
        side = self._crop_side
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
            "resized_crop": self._augmentation.resized_crop,
        }

    def _is_resized(self, epoch: int) -> bool:
        return (
            epoch != EVALUATION
            and self._augmentation is not None
            and self._augmentation.resized_crop is not None
        )

    def _crop(self, row: int, epoch: int, height: int, width: int) -> Crop:
        side = self._crop_side
        if epoch == EVALUATION:
            top, left = centre(height, width, side)
            return Crop(top, left, side, side, False)
        assert self._augmentation is not None
        image_id = int(self.pixels.split.ids[row])
        seed = self._augmentation.seed
        return random_crop(seed, epoch, image_id, height, width, side, self._augmentation.flip)

    def _resized(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        assert self._augmentation is not None
        assert self._augmentation.resized_crop is not None
        side, scale = self._augmentation.resized_crop
        seed = self._augmentation.seed
        flip = self._augmentation.flip
        squares = np.empty((len(rows), side, side, 3), np.uint8)
        for square, row in zip(squares, rows, strict=True):
            image = self.pixels.image(row)
            height, width, _ = image.shape
            image_id = int(self.pixels.split.ids[row])
            crop = random_resized_crop(seed, epoch, image_id, height, width, scale, flip)
            part = Image.fromarray(cut(image, replace(crop, mirrored=False)))
            resized = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR))
            square[:] = resized[:, :: -1 if crop.mirrored else 1]
        return squares


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
        """Equally large crops of the images ``rows``: uint8 [n, height, width, 3]."""
        device = self._pixels.device
        height, width = crops[0].height, crops[0].width
        numbers = np.array([(crop.top, crop.left, crop.mirrored) for crop in crops])
        columns = np.stack([self._starts[rows], self._shapes[rows, 1], *numbers.T])
        starts, widths, tops, lefts, mirrored = to_device(torch.from_numpy(columns), device)
        y = tops[:, None] + torch.arange(height, device=device)
        x = torch.arange(width, device=device).expand(len(rows), width)
        x = torch.where(mirrored[:, None].bool(), width - 1 - x, x) + lefts[:, None]
        places = starts[:, None, None] + y[:, :, None] * widths[:, None, None] + x[:, None, :]
        return self._pixels[places]


def cut(image: np.ndarray, crop: Crop) -> np.ndarray:
    """A crop of an image [height, width, 3]."""
    part = image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
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
