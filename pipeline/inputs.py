"""What a network starts from: views of pictures, or the stored output of its frozen beginning (features).

Nothing is drawn from a running generator. Every random choice has an address, (purpose, seed, epoch, image id), so it
is the same whatever ran before: another batch size, a resumed run, more workers.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.arrays import ArrayReader, ArrayWriter
from pipeline.images import Split, parallel_map
from pipeline.params import Transforms

VIEW = 0  # purpose of a random address; pipeline/train.py has the other

# The network's input for some rows of a split, on its device: in that epoch of training, or (0) in evaluation.
Inputs = Callable[[np.ndarray, int], Tensor]


def view(
    seed: int, epoch: int, image_id: int, height: int, width: int, crop: int, flip: float
) -> tuple[int, int, bool]:
    """Random crop and flip of one picture in one epoch: top, left, whether mirrored.

    Uniform over all positions, as ``torchvision.transforms.RandomCrop``; mirrored with probability ``flip``.
    """
    random = np.random.default_rng([VIEW, seed, epoch, image_id])
    top = int(random.integers(height - crop + 1))
    left = int(random.integers(width - crop + 1))
    return top, left, bool(random.random() < flip)


def views(images: Split, rows: np.ndarray, seed: int, epoch: int, crop: int, flip: float) -> np.ndarray:
    """The views of the pictures ``rows`` in ``epoch``: uint8 [len(rows), crop, crop, 3]."""
    batch = np.empty((len(rows), crop, crop, 3), np.uint8)
    for square, row in zip(batch, rows, strict=True):
        image = images.image(row)
        top, left, mirrored = view(seed, epoch, int(images.ids[row]), image.shape[0], image.shape[1], crop, flip)
        square[:] = image[top : top + crop, left : left + crop][:, :: -1 if mirrored else 1]
    return batch


def normalise(images: np.ndarray, mean: list[float], std: list[float], device: torch.device) -> Tensor:
    """uint8 pictures [n, height, width, 3] as the network's input on ``device``.

    Returns:
        float32 [n, 3, height, width] in channels-last memory, (pixel / 255 - mean) / std, computed in the order of
        torchvision's ``ToTensor`` and ``Normalize``.
    """
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    shape = (3, 1, 1)
    return tensor.sub_(tensor.new_tensor(mean).view(shape)).div_(tensor.new_tensor(std).view(shape))


def chunks(count: int, size: int) -> list[np.ndarray]:
    """The rows 0..count-1 in order, ``size`` at a time (the last may be fewer)."""
    return np.split(np.arange(count), range(size, count, size))


def pixel_inputs(images: Split, transforms: Transforms, device: torch.device, seed: int = 0) -> Inputs:
    """Views of pictures: random crop and flip in an epoch of training, the central crop in evaluation.

    Args:
        seed: of the random choices; evaluation makes none.
    """

    def inputs(rows: np.ndarray, epoch: int) -> Tensor:
        if epoch:
            squares = views(images, rows, seed, epoch, transforms.crop, transforms.flip)
        else:
            squares = images.central(rows, transforms.crop)
        return normalise(squares, transforms.mean, transforms.std, device)

    return inputs


def feature_inputs(file: Path, count: int, device: torch.device) -> Inputs:
    """Features that :func:`write_features` stored of a split of ``count`` pictures."""
    features = ArrayReader(file)

    def inputs(rows: np.ndarray, epoch: int) -> Tensor:
        first = max(0, epoch - 1) * count
        tensor = torch.from_numpy(np.stack([features.read(first + row) for row in rows])).to(device)
        if tensor.dtype == torch.uint16:
            tensor = tensor.view(torch.bfloat16)
        return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    return inputs


def open_inputs(
    data: Path, name: str, images: Split, transforms: Transforms, device: torch.device, seed: int = 0
) -> Inputs:
    """The inputs that ``approaches.*.input`` names, of one split: ``pixels``, or the features of a module."""
    if name == "pixels":
        return pixel_inputs(images, transforms, device, seed)
    return feature_inputs(data / name / f"{images.name}.npy", len(images), device)


def outputs(network: nn.Module, inputs: Inputs, count: int, epoch: int, device: torch.device) -> Iterator[Tensor]:
    """What ``network`` makes of ``inputs``, without gradients: all rows of a split in order, a chunk at a time.

    On the CPU each thread computes a chunk of its own, so small that caches hold it: the same bits as all threads on
    one large chunk, and a sixth faster (ResNet18 up to layer3 on 2 cores).

    Args:
        network: in eval mode, on ``device``, as the inputs are.

    Yields:
        Tensors on the CPU.
    """
    size, workers = (16, torch.get_num_threads()) if device.type == "cpu" else (256, 1)

    def compute(rows: np.ndarray) -> Tensor:
        torch.set_num_threads(1)  # of this worker
        with torch.inference_mode():
            return network(inputs(rows, epoch)).cpu()

    return parallel_map(compute, chunks(count, size), workers)


def predict(network: nn.Module, inputs: Inputs, count: int, device: torch.device) -> Tensor:
    """Logits of every picture of a split, in the order of the index: float32 [n, classes] on the CPU.

    Args:
        network: what follows ``inputs``, in eval mode, on ``device``, as they are.
        count: pictures of the split.
    """
    # One buffer, because small tensors that stay between large ones that go tear the heap to pieces: by gigabytes
    # at 100,000 pictures.
    logits = bytearray()
    for output in outputs(network, inputs, count, 0, device):
        logits += output.float().numpy().tobytes()
    return torch.frombuffer(logits, dtype=torch.float32).view(count, -1)


def write_features(
    file: Path, network: nn.Module, inputs: Inputs, count: int, epochs: int, device: torch.device
) -> None:
    """Store what a frozen part of a network makes of a split: one row an input, in a .npy file.

    Rows are float32, or the bits of bfloat16 as uint16 (numpy has no bfloat16).

    Args:
        network: in eval mode, on ``device``, as the inputs are.
        epochs: rows are all pictures' views in epoch 1, then in epoch 2, ...; with 0 their central crops, once.
    """
    with ArrayWriter(file) as features:
        for epoch in range(1, epochs + 1) if epochs else [0]:
            for output in outputs(network, inputs, count, epoch, device):
                features.append((output.view(torch.uint16) if output.dtype == torch.bfloat16 else output).numpy())
