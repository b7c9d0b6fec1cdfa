"""Passes without gradients: predictions, and features (the output of a frozen beginning), stored once."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from pipeline.base.arrays import ArrayReader
from pipeline.base.distributed import agreed, in_turn
from pipeline.base.launch import RANK, SIZE
from pipeline.base.parallel import parallel_map
from pipeline.data.params import ResizedCrop
from pipeline.data.pixels import Split
from pipeline.data.views import Inputs, chunks, pixel_inputs, to_device


def outputs(
    network: nn.Module, inputs: Inputs, count: int, epoch: int, device: torch.device, first: int = 0
) -> Iterator[Tensor]:
    """What ``network`` makes of ``inputs``, without gradients: the rows of a split in order, a chunk at a time.

    On the CPU each thread computes a chunk of its own, so small that caches hold it: the same bits as all threads on
    one large chunk, and a sixth faster (ResNet18 up to layer3 on 2 cores). An accelerator computes larger chunks, while
    four threads read and copy the next ones. Several processes take the chunks in turn, and the first gets all outputs.

    Args:
        network: in eval mode, on ``device``, as the inputs are.
        first: row to begin with, at which a chunk begins.

    Yields:
        Tensors on the CPU.
    """

    def compute(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(batch).cpu()

    def read_and_compute(rows: np.ndarray) -> Tensor:
        torch.set_num_threads(1)  # of this worker
        return compute(inputs(rows, epoch))

    pieces = chunks(count, 16 if device.type == "cpu" else 64, first)
    own = pieces[RANK::SIZE]
    if device.type == "cpu":
        return in_turn(parallel_map(read_and_compute, own, torch.get_num_threads()), len(pieces))
    return in_turn(map(compute, parallel_map(lambda rows: inputs(rows, epoch), own, workers=4)), len(pieces))


def collect(chunks: Iterable[Tensor]) -> Tensor:
    """Logits of every image, from the :func:`outputs` of a whole network: float32 [n, classes] on the CPU."""
    # One buffer, because small tensors that stay between large ones that go fragment the heap: by gigabytes at
    # 100,000 images.
    logits, count = bytearray(), 0
    for chunk in chunks:
        logits += chunk.float().numpy().tobytes()
        count += len(chunk)
    # Only the first process was given chunks.
    return agreed(torch.empty(0) if RANK else torch.frombuffer(logits, dtype=torch.float32).view(count, -1))


def features(
    network: nn.Module, inputs: Inputs, count: int, epochs: int, device: torch.device, first: int = 0
) -> Iterator[np.ndarray]:
    """What a frozen part of a network makes of a split, in blocks of rows: one row an input.

    Rows are float32, or the bits of bfloat16 as uint16 (numpy has no bfloat16).

    Args:
        network: in eval mode, on ``device``, as the inputs are.
        epochs: rows are all images' views in epoch 1, then in epoch 2, ...; with 0 their central crops, once.
        first: row to begin with, at which a block begins.
    """
    for epoch in range(1 + first // count, epochs + 1) if epochs else [0]:
        for output in outputs(network, inputs, count, epoch, device, max(0, first - max(0, epoch - 1) * count)):
            yield (output.view(torch.uint16) if output.dtype == torch.bfloat16 else output).numpy()


def _values(rows: np.ndarray) -> Tensor:
    """The numbers that :func:`features` gave as rows; on the CPU, for not every device knows uint16."""
    tensor = torch.from_numpy(rows)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def feature_inputs(file: Path, count: int, device: torch.device) -> Inputs:
    """Features that :func:`features` made, stored, of a split of ``count`` images."""
    features = ArrayReader(file)

    def inputs(rows: np.ndarray, epoch: int) -> Tensor:
        first = max(0, epoch - 1) * count
        tensor = to_device(_values(np.concatenate([features.read(first + row, 1) for row in rows])), device)
        return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    return inputs


def input_module(name: str) -> str:
    """What an input of an approach comes out of: a module, or pixels (of ``sizes`` too: pixels_NAME)."""
    return "pixels" if name.startswith("pixels_") else name


def open_inputs(
    folder: Path,
    images: Split,
    transforms: Mapping[str, Any],
    device: torch.device,
    seed: int = 0,
    resized: ResizedCrop | None = None,
) -> Inputs:
    """The inputs of one split in a folder that ``approaches.*.input`` names: pixels, or features of a module.

    Args:
        images: the table of that folder's split.
        transforms, seed, resized: as for :func:`pipeline.data.views.pixel_inputs`.
    """
    if input_module(folder.name) == "pixels":
        return pixel_inputs(images, transforms, device, seed, resized)
    return feature_inputs(folder / f"{images.name}.npy", len(images), device)


def most_alike(first: np.ndarray, second: np.ndarray, count: int) -> pd.DataFrame:
    """The ``count`` pairs of rows of two arrays of features whose cosine is largest, largest first.

    Args:
        first, second: rows that :func:`features` made, [n, ...].

    Returns:
        Columns train and test (row in first and in second), cosine (rounded to four decimals, ties by row).
    """
    units = [normalize(_values(array).float().flatten(1)) for array in (first, second)]
    best = []
    for start in range(0, len(second), 1024):  # in blocks, for memory
        cosine = units[0] @ units[1][start : start + 1024].T
        value, place = cosine.flatten().topk(min(count, cosine.numel()))
        rows, columns = place // cosine.shape[1], place % cosine.shape[1] + start
        best.append(pd.DataFrame({"train": rows.numpy(), "test": columns.numpy(), "cosine": value.numpy().round(4)}))
    table = pd.concat(best).sort_values(["cosine", "train", "test"], ascending=[False, True, True])
    return table.head(count).reset_index(drop=True)
