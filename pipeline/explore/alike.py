"""Images that are the same or nearly the same: they make test accuracy too good."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.data.pixels import Pixels

BLOCK = 1024  # rows compared at once, for memory


def pixels_digest(pixels: Pixels) -> str:
    """SHA-256 of the pixels of all images of a split, in order, hex."""
    digest = hashlib.sha256()
    for row in range(len(pixels.split)):
        digest.update(np.ascontiguousarray(pixels.image(row)).data)
    return digest.hexdigest()


def identical(splits: Iterable[Pixels]) -> list[list[int]]:
    """Groups of two or more images (ids), in any splits, whose central squares are the same."""
    groups: dict[bytes, list[int]] = {}
    for pixels in splits:
        for row, image_id in enumerate(pixels.split.ids.tolist()):
            square = hashlib.sha256(pixels.central([row]).tobytes()).digest()
            groups.setdefault(square, []).append(image_id)
    return [ids for ids in groups.values() if len(ids) > 1]


def most_alike(first: Tensor, second: Tensor, count: int) -> pd.DataFrame:
    """The ``count`` pairs of rows of two arrays whose cosine is largest, largest first.

    Args:
        first, second: what goes into the head, float32 [n, values].

    Returns:
        Columns train and test (row in first and in second), cosine (rounded to four decimals, ties
        by row).
    """
    first_units = normalize(first)
    second_units = normalize(second)
    best = []
    for start in range(0, len(second), BLOCK):
        cosine = first_units @ second_units[start : start + BLOCK].T
        value, place = cosine.flatten().topk(min(count, cosine.numel()))
        columns = {
            "train": (place // cosine.shape[1]).numpy(),
            "test": (place % cosine.shape[1] + start).numpy(),
            "cosine": value.numpy().round(4),
        }
        best.append(pd.DataFrame(columns))
    order = ["cosine", "train", "test"]
    table = pd.concat(best).sort_values(order, ascending=[False, True, True])
    return table.head(count).reset_index(drop=True)
