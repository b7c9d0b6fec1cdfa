"""What the predictions of several approaches on the same test images say beyond accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pipeline.figures.style import label
from pipeline.report.comparison import Difference

Predictions = Mapping[str, pd.DataFrame]  # of each approach: columns label, prediction, confidence


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes that are predicted for one another.

    Attributes:
        classes: their labels.
        times: how many images of one are predicted as the other, by approach.
        rows: for each of the classes the test image that is most confidently predicted as the
            other; None if there is none.
    """

    classes: tuple[int, int]
    times: dict[str, int]
    rows: tuple[int | None, int | None]


def answer(table: pd.DataFrame, differences: list[Difference]) -> str:
    """The result in one sentence: the two most accurate approaches, and their difference.

    Args:
        table, differences: by :mod:`pipeline.report.comparison`.
    """
    ranked = table.sort_values("test_accuracy", ascending=False, kind="stable")
    names = ranked["approach"].tolist()
    best = label(names[0])
    if len(names) == 1:
        return f"{best} gets {ranked['test_accuracy'].iloc[0]:.1%} of the test images right."
    second = label(names[1])
    pair = next(pair for pair in differences if {pair.first, pair.second} == set(names[:2]))
    found = pair.accuracy
    sign = 1 if pair.second == names[0] else -1
    points = 100 * sign * found.difference
    low, high = sorted((100 * sign * found.low, 100 * sign * found.high))
    interval = f"95 % interval {low:.1f} to {high:.1f}"
    if not pair.is_better(names[0]):
        if low > 0:
            interval += f", but McNemar's test, which decides here, p = {pair.p_value_holm:.3f}"
        return (
            f"{best} and {second} cannot be told apart: {points:.1f} points of test accuracy "
            f"between them ({interval})."
        )
    others = f" the best of {len(names)} approaches," if len(names) > 2 else ""
    return (
        f"{best} is{others} better than {second} by {points:.1f} points of test accuracy "
        f"({interval})."
    )


def only_right(predictions: Predictions) -> dict[str, list[int]]:
    """For each approach the rows of the test images that no other approach gets right.

    The most confident predictions come first.
    """
    correct = pd.DataFrame(
        {name: table["label"] == table["prediction"] for name, table in predictions.items()}
    )
    one_right = correct.sum(axis=1) == 1
    found = {}
    for name, table in predictions.items():
        confidence = table["confidence"][one_right & correct[name]]
        found[name] = confidence.sort_values(ascending=False, kind="stable").index.tolist()
    return found


def mistakes(predictions: Predictions, count: int) -> pd.DataFrame:
    """The ``count`` most confident wrong predictions of all approaches; each image once.

    Returns:
        Columns approach, row (of the test image), label, prediction, confidence.
    """
    wrong = _wrong(predictions).sort_values("confidence", ascending=False, kind="stable")
    return wrong.drop_duplicates("row").head(count).reset_index(drop=True)


def confused_pairs(predictions: Predictions, count: int) -> list[ConfusedPair]:
    """The ``count`` pairs of classes most often predicted for one another, over all approaches."""
    wrong = _wrong(predictions)
    labels = zip(wrong["label"], wrong["prediction"], strict=True)
    wrong["pair"] = [tuple(sorted(pair)) for pair in labels]
    frequencies = wrong["pair"].value_counts(sort=False)
    ranked = frequencies.sort_values(ascending=False, kind="stable")
    found = []
    for first, second in ranked.index[:count]:
        of_pair = wrong[wrong["pair"] == (first, second)]
        times = {name: int((of_pair["approach"] == name).sum()) for name in predictions}
        rows = (_most_confident(of_pair, first), _most_confident(of_pair, second))
        found.append(ConfusedPair((first, second), times, rows))
    return found


def _most_confident(wrong: pd.DataFrame, class_id: int) -> int | None:
    """Row of the image of a class in the most confident of the wrong predictions, if any."""
    of_class = wrong[wrong["label"] == class_id]
    ranked = of_class.sort_values("confidence", ascending=False, kind="stable")
    return int(ranked["row"].iloc[0]) if len(ranked) else None


def _wrong(predictions: Predictions) -> pd.DataFrame:
    """The wrong predictions: approach, row (of the test image), and the columns they had."""
    tables = {name: table.rename_axis("row") for name, table in predictions.items()}
    every = pd.concat(tables, names=["approach"])
    return every[every["label"] != every["prediction"]].reset_index()
