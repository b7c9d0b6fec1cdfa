"""Views: the random crop and flip (augmentation) of an image in training, its central crop in evaluation.

Nothing is drawn from a running generator. Every random choice has an address, (purpose, seed, epoch, image id), so it
is the same whatever ran before: another batch size, a resumed run, more workers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.data.params import ResizedCrop
from pipeline.data.pixels import Split

LOG_RATIO = math.log(4 / 3)
VIEW = 0  # purpose of a random address; pipeline/training/fit.py has the others

# The network's input for some rows of a split, on its device: in that epoch of training, or (0) in evaluation.
Inputs = Callable[[np.ndarray, int], Tensor]


def view(
    seed: int, epoch: int, image_id: int, height: int, width: int, crop: int, flip: float
) -> tuple[int, int, bool]:
    """Random crop and flip of one image in one epoch: top, left, whether mirrored.

    Uniform over all positions, as ``torchvision.transforms.RandomCrop``; mirrored with probability ``flip``.
    """
    random = np.random.default_rng([VIEW, seed, epoch, image_id])
    top = int(random.integers(height - crop + 1))
    left = int(random.integers(width - crop + 1))
    return top, left, bool(random.random() < flip)


def resized_crop(
    seed: int, epoch: int, image_id: int, height: int, width: int, scale: float, flip: float
) -> tuple[int, int, int, int, bool]:
    """Random part and flip of one image in one epoch: top, left, height, width, whether mirrored.

    As ``torchvision.transforms.RandomResizedCrop`` with ``scale=(scale, 1)`` chooses it: a share of the area, uniform
    from ``scale`` to 1, of a width 3/4 to 4/3 of the height (uniform in the logarithm); after ten that do not fit into
    the image, the largest central part of such a shape.
    """
    random = np.random.default_rng([VIEW, seed, epoch, image_id])
    mirrored = bool(random.random() < flip)
    for _ in range(10):
        area, ratio = height * width * random.uniform(scale, 1), np.exp(random.uniform(-LOG_RATIO, LOG_RATIO))
        h, w = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w, mirrored
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w, mirrored


def views(
    images: Split, rows: np.ndarray, seed: int, epoch: int, crop: int, flip: float, scale: float | None = None
) -> np.ndarray:
    """The views of the images ``rows`` in ``epoch``: uint8 [len(rows), crop, crop, 3].

    Args:
        scale: None for random crops by :func:`view`; else that of :func:`resized_crop`, whose parts are resized.
    """
    batch = np.empty((len(rows), crop, crop, 3), np.uint8)
    for square, row in zip(batch, rows, strict=True):
        image, number = images.image(row), int(images.ids[row])
        height, width, _ = image.shape
        if scale is None:
            top, left, mirrored = view(seed, epoch, number, height, width, crop, flip)
            part = image[top : top + crop, left : left + crop]
        else:
            top, left, height, width, mirrored = resized_crop(seed, epoch, number, height, width, scale, flip)
            whole = Image.fromarray(image[top : top + height, left : left + width])
            part = np.asarray(whole.resize((crop, crop), Image.Resampling.BILINEAR))
        square[:] = part[:, :: -1 if mirrored else 1]
    return batch


def normalise(images: np.ndarray, mean: list[float], std: list[float], device: torch.device) -> Tensor:
    """uint8 images [n, height, width, 3] as the network's input on ``device``.

    Returns:
        float32 [n, 3, height, width] in channels-last memory, (pixel / 255 - mean) / std, computed in the order of
        torchvision's ``ToTensor`` and ``Normalize``.
    """
    tensor = to_device(torch.from_numpy(images), device).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    shape = (3, 1, 1)
    return tensor.sub_(tensor.new_tensor(mean).view(shape)).div_(tensor.new_tensor(std).view(shape))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of ``tensor`` on ``device``; to CUDA from pinned memory, while the device computes."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def chunks(count: int, size: int, first: int = 0) -> list[np.ndarray]:
    """The rows first..count-1 in order, ``size`` at a time (the last may be fewer)."""
    return [np.arange(start, min(start + size, count)) for start in range(first, count, size)]


def pixel_inputs(
    images: Split,
    transforms: Mapping[str, Any],
    device: torch.device,
    seed: int = 0,
    resized: ResizedCrop | None = None,
) -> Inputs:
    """Views of images: random crop and flip in an epoch of training, the central crop in evaluation.

    Args:
        transforms: crop, flip, mean and std of params.yaml.
        seed: of the random choices; evaluation makes none.
        resized: crops of any size and shape, resized, in place of the random crop in training.
    """

    def inputs(rows: np.ndarray, epoch: int) -> Tensor:
        if epoch and resized:
            squares = views(images, rows, seed, epoch, resized.size, transforms["flip"], resized.scale)
        elif epoch:
            squares = views(images, rows, seed, epoch, transforms["crop"], transforms["flip"])
        else:
            squares = images.central(rows, transforms["crop"])
        return normalise(squares, transforms["mean"], transforms["std"], device)

    return inputs
