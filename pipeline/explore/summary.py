"""How many images the data have, and how large they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.raw import SPLITS


def image_table(index: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """All images: columns file, split, label, class; those of train, then val, then test.

    Those of one split are in the order of the index, as its pixels and views are.
    """
    splits = [index[index["split"] == split] for split in SPLITS]
    table = pd.concat(splits, ignore_index=True)[["member", "split", "label"]]
    names = [classes[label] for label in table["label"]]
    return table.rename(columns={"member": "file"}).assign(**{"class": names})


def dataset_summary(index: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Number of classes and, for each split, of images: in all, of the smallest and largest class.

    Args:
        index: by :func:`pipeline.data.raw.read_index`.
        classes: names.
    """
    summary: dict[str, Any] = {"classes": len(classes)}
    for split in index["split"].unique():
        counts = index.loc[index["split"] == split, "label"].value_counts()
        summary[split] = {
            "images": int(counts.sum()),
            "fewest_of_a_class": int(counts.min()),
            "most_of_a_class": int(counts.max()),
        }
    return summary


def class_counts(index: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Images of each class in each split: columns class, train, val, test, in the labels' order."""
    table = pd.DataFrame({"class": classes})
    for split in SPLITS:
        labels = index.loc[index["split"] == split, "label"]
        table[split] = np.bincount(labels, minlength=len(classes))
    return table


def size_summary(measures: pd.DataFrame) -> dict[str, list[int]]:
    """Smallest, median and largest short and long side of the originals, in pixels.

    Args:
        measures: columns width and height.
    """
    sides = measures[["width", "height"]]
    short = sides.min(axis=1)
    long = sides.max(axis=1)
    return {
        name: [int(side.min()), int(side.median()), int(side.max())]
        for name, side in (("short_side", short), ("long_side", long))
    }
