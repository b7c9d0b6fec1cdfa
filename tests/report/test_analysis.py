"""What predictions say beyond accuracy, on tables worked out by hand."""

import pandas as pd
import pytest

from pipeline.report.analysis import ConfusedPair, answer, confused_pairs, mistakes, only_right
from pipeline.report.comparison import Difference
from pipeline.report.statistics import PairedDifference

LABELS = [0, 0, 1, 1, 2]


def predicted(prediction: list[int], confidence: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"label": LABELS, "prediction": prediction, "confidence": confidence})


ONE = predicted([0, 1, 0, 1, 2], [0.9, 0.8, 0.7, 0.6, 0.5])
TWO = predicted([0, 0, 0, 2, 2], [0.5, 0.6, 0.9, 0.8, 0.7])


def test_images_that_only_one_approach_gets_right() -> None:
    assert only_right({"one": ONE, "two": TWO}) == {"one": [3], "two": [1]}
    assert only_right({"one": ONE, "two": ONE}) == {"one": [], "two": []}


def test_the_most_confident_mistakes_name_an_image_once() -> None:
    found = mistakes({"one": ONE, "two": TWO}, 5)
    assert found["approach"].tolist() == ["two", "one", "two"]
    assert found["row"].tolist() == [2, 1, 3]
    assert found["prediction"].tolist() == [0, 1, 2]
    assert len(mistakes({"one": ONE, "two": TWO}, 1)) == 1


def test_confused_pairs_count_both_directions_of_all_approaches() -> None:
    assert confused_pairs({"one": ONE, "two": TWO}, 10) == [
        ConfusedPair(classes=(0, 1), times={"one": 2, "two": 1}, rows=(1, 2)),
        ConfusedPair(classes=(1, 2), times={"one": 0, "two": 1}, rows=(3, None)),
    ]


def test_predictions_that_are_all_right_confuse_no_classes() -> None:
    assert confused_pairs({"right": predicted(LABELS, [1.0] * 5)}, 10) == []


def answer_of(
    accuracies: dict[str, float],
    interval: tuple[float, float, float] | None = None,
    p_value: float = 0.001,
) -> str:
    """The answer for approaches of these test accuracies.

    Args:
        interval: difference of the first two, low and high.
    """
    table = pd.DataFrame({"approach": accuracies.keys(), "test_accuracy": accuracies.values()})
    if interval is None:
        return answer(table, [])
    first, second, *_ = accuracies
    found = PairedDifference(*interval, only_first=0, only_second=0, p_value=p_value)
    return answer(table, [Difference(first, second, found, p_value_holm=p_value)])


@pytest.mark.parametrize(
    ("accuracies", "interval", "sentence"),
    [
        ({"a_b": 0.5}, None, "a b gets 50.0% of the test images right."),
        (
            {"feature_extraction": 0.8, "fine_tuning": 0.9},
            (0.1, 0.08, 0.12),
            "fine-tuning is better than feature extraction by 10.0 points of test accuracy "
            "(95 % interval 8.0 to 12.0).",
        ),
        (
            {"best": 0.9, "second": 0.8, "third": 0.1},
            (-0.1, -0.12, -0.08),
            "best is the best of 3 approaches, better than second by 10.0 points of test accuracy "
            "(95 % interval 8.0 to 12.0).",
        ),
        (
            {"one": 0.81, "two": 0.8},
            (-0.01, -0.03, 0.01),
            "one and two cannot be told apart: 1.0 points of test accuracy between them "
            "(95 % interval -1.0 to 3.0).",
        ),
    ],
)
def test_the_answer_in_one_sentence(
    accuracies: dict[str, float], interval: tuple[float, float, float] | None, sentence: str
) -> None:
    assert answer_of(accuracies, interval) == sentence


def test_the_test_decides_where_it_and_the_interval_do_not_agree() -> None:
    sentence = answer_of({"one": 0.85, "two": 0.8}, (-0.05, -0.09, -0.01), p_value=0.06)
    assert sentence == (
        "one and two cannot be told apart: 5.0 points of test accuracy between them "
        "(95 % interval 1.0 to 9.0, but McNemar's test, which decides here, p = 0.060)."
    )
