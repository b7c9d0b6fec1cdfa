"""What predictions say beyond accuracy, on tables worked out by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.report.analysis import answer, confused, mistakes, only_right, samples

LABELS = [0, 0, 1, 1, 2]


def predicted(prediction: list[int], confidence: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"label": LABELS, "prediction": prediction, "confidence": confidence})


ONE = predicted([0, 1, 0, 1, 2], [0.9, 0.8, 0.7, 0.6, 0.5])
TWO = predicted([0, 0, 0, 2, 2], [0.5, 0.6, 0.9, 0.8, 0.7])


def test_images_that_one_alone_gets_right() -> None:
    assert only_right({"one": ONE, "two": TWO}) == {"one": [3], "two": [1]}
    assert only_right({"one": ONE, "two": ONE}) == {"one": [], "two": []}


def test_surest_mistakes_name_an_image_once() -> None:
    found = mistakes({"one": ONE, "two": TWO}, 5)
    assert found[["approach", "row", "prediction"]].to_numpy().tolist() == [["two", 2, 0], ["one", 1, 1], ["two", 3, 2]]
    assert len(mistakes({"one": ONE, "two": TWO}, 1)) == 1


def test_confused_pairs_count_both_directions_of_all_approaches() -> None:
    first, second = confused({"one": ONE, "two": TWO}, 10)
    assert first == {"classes": (0, 1), "times": {"one": 2, "two": 1}, "rows": [1, 2]}
    assert second == {"classes": (1, 2), "times": {"one": 0, "two": 1}, "rows": [3, None]}
    assert confused({"right": predicted(LABELS, [1.0] * 5)}, 10) == []


def test_samples_are_the_first_of_classes_evenly_spread() -> None:
    assert samples(np.array([3, 3, 1, 0, 7, 1]), 2) == [3, 4]
    assert samples(np.array([3, 3, 1]), 18) == [2, 0]


@pytest.mark.parametrize(
    ("accuracies", "pair", "sentence"),
    [
        ({"a_b": 0.5}, None, "a b gets 50.0% of the test images right."),
        (
            {"feature_extraction": 0.8, "fine_tuning": 0.9},
            {"difference": 0.1, "low": 0.08, "high": 0.12},
            "fine-tuning is better than feature extraction by 10.0 points of test accuracy "
            "(95 % interval 8.0 to 12.0).",
        ),
        (
            {"best": 0.9, "second": 0.8, "third": 0.1},
            {"difference": -0.1, "low": -0.12, "high": -0.08},
            "best is the best of 3 approaches, better than second by 10.0 points of test accuracy "
            "(95 % interval 8.0 to 12.0).",
        ),
        (
            {"one": 0.81, "two": 0.8},
            {"difference": -0.01, "low": -0.03, "high": 0.01},
            "one and two cannot be told apart: 1.0 points of test accuracy between them (95 % interval -1.0 to 3.0).",
        ),
    ],
)
def test_the_answer_in_one_sentence(accuracies: dict[str, float], pair: dict[str, Any] | None, sentence: str) -> None:
    table = pd.DataFrame({"approach": list(accuracies), "test_accuracy": list(accuracies.values())})
    first, second = (list(accuracies) * 2)[:2]
    assert answer(table, [pair | {"first": first, "second": second}] if pair else []) == sentence
