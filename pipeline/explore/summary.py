"""How many images the data have."""

from typing import Any

import pandas as pd


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
