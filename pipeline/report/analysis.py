"""What the data are, and what the predictions of several approaches on the same test images say, beyond accuracy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.style import label

Predictions = Mapping[str, pd.DataFrame]  # of each approach, as pipeline/training/evaluation.py makes them


def dataset_summary(index: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Number of classes, and for each split the number of images, in all and of the smallest and largest class.

    Args:
        index: as in pipeline/data/raw.py.
    """
    summary: dict[str, Any] = {"classes": len(classes)}
    for split in index["split"].unique():
        counts = index.loc[index["split"] == split, "label"].value_counts()
        sizes = {"images": counts.sum(), "fewest_of_a_class": counts.min(), "most_of_a_class": counts.max()}
        summary[split] = {name: int(size) for name, size in sizes.items()}
    return summary


def answer(table: pd.DataFrame, differences: list[dict[str, Any]]) -> str:
    """The result in one sentence: the two approaches of the highest test accuracy, and how sure their difference is.

    Args:
        table, differences: as :mod:`pipeline.report.comparison` makes them.
    """
    ranked = table.sort_values("test_accuracy", ascending=False, kind="stable")
    best = label(ranked["approach"].iloc[0])
    if len(ranked) == 1:
        return f"{best} gets {ranked['test_accuracy'].iloc[0]:.1%} of the test images right."
    second = ranked["approach"].iloc[1]
    pair = next(pair for pair in differences if {pair["first"], pair["second"]} == set(ranked["approach"][:2]))
    sign = 1 if pair["first"] == second else -1
    points, low, high = (100 * sign * pair[key] for key in ("difference", "low", "high"))
    low, high = min(low, high), max(low, high)
    interval = f"95 % interval {low:.1f} to {high:.1f}"
    if low <= 0:
        return (
            f"{best} and {label(second)} cannot be told apart: {points:.1f} points of test accuracy between them "
            f"({interval})."
        )
    others = f" the best of {len(ranked)} approaches," if len(ranked) > 2 else ""
    return f"{best} is{others} better than {label(second)} by {points:.1f} points of test accuracy ({interval})."


def samples(labels: np.ndarray, count: int) -> list[int]:
    """Rows of the first image of each of ``count`` classes, evenly spread over those that are there."""
    present = np.unique(labels)
    chosen = present[np.linspace(0, len(present) - 1, min(count, len(present))).round().astype(int)]
    return [int(np.flatnonzero(labels == label)[0]) for label in chosen]


def only_right(predictions: Predictions) -> dict[str, list[int]]:
    """For each approach the rows of the test images that it alone gets right, surest first."""
    correct = _correct(predictions)
    alone = correct.sum(axis=1) == 1
    return {
        name: table["confidence"][alone & correct[name]].sort_values(ascending=False, kind="stable").index.tolist()
        for name, table in predictions.items()
    }


def mistakes(predictions: Predictions, count: int) -> pd.DataFrame:
    """The ``count`` wrong predictions of all approaches that were surest: approach, row, prediction, confidence.

    An image stands once, with the surest.
    """
    wrong = _wrong(predictions).sort_values("confidence", ascending=False, kind="stable")
    return wrong.drop_duplicates("row").head(count).reset_index(drop=True)


def confused(predictions: Predictions, count: int) -> list[dict[str, Any]]:
    """The ``count`` pairs of classes that are most often taken for one another, by all approaches together.

    Returns:
        For each pair: classes (two labels), times (by approach), and rows: of each class the test image that was most
        surely taken for the other (None if none was).
    """
    wrong = _wrong(predictions)
    wrong["pair"] = [tuple(sorted(pair)) for pair in zip(wrong["label"], wrong["prediction"], strict=True)]
    pairs = []
    for pair in wrong["pair"].value_counts(sort=False).sort_values(ascending=False, kind="stable").index[:count]:
        rows = wrong[wrong["pair"] == pair].sort_values("confidence", ascending=False, kind="stable")
        first = {number: rows.loc[rows["label"] == number, "row"].head(1).tolist() for number in pair}
        pairs.append(
            {
                "classes": pair,
                "times": {name: int((rows["approach"] == name).sum()) for name in predictions},
                "rows": [found[0] if found else None for found in first.values()],
            }
        )
    return pairs


def _correct(predictions: Predictions) -> pd.DataFrame:
    return pd.DataFrame({name: table["label"] == table["prediction"] for name, table in predictions.items()})


def _wrong(predictions: Predictions) -> pd.DataFrame:
    """The wrong predictions of all approaches: approach, row (of the test image), label, prediction, confidence."""
    every = pd.concat({name: table.rename_axis("row") for name, table in predictions.items()}, names=["approach"])
    return every[every["label"] != every["prediction"]].reset_index()
