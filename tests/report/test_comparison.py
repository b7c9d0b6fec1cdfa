"""The comparison, for people and for plots."""

from typing import Any

import pandas as pd
import pytest

from pipeline.params import Approach, Published, Recipe, Train
from pipeline.report.comparison import (
    Difference,
    concatenated,
    confusion,
    curves,
    differences,
    markdown,
    notes,
    recommended,
    rows,
    summary,
)
from pipeline.report.statistics import PairedDifference

TRAIN = Train(
    seed=0,
    images_per_class="all",
    initial="backbone",
    resize=256,
    crop=224,
    fit="crop",
    flip=0.5,
    train_crop=None,
    flip_averaging=False,
    precision="fp32",
    epochs=15,
    batch_size=32,
    schedule="constant",
    warm_up=0,
    label_smoothing=0.0,
    class_weights="none",
    keep="last",
)
SCORES = {
    "accuracy": 0.5,
    "top5_accuracy": 0.75,
    "balanced_accuracy": 0.5,
    "loss": 1.0,
    "uncalibrated_loss": 1.25,
    "images": 8,
}
EVALUATION = {"test": SCORES, "val": SCORES, "parameters": {"total": 200, "trainable": 50}}
PUBLISHED = {"one": Published(val_accuracy=0.6, val_loss=1.5, test_accuracy=0.55)}


def recipe(**settings: Any) -> Recipe:
    return Approach(learning_rates={"layer4": 1e-4, "fc": 1e-3}, **settings).recipe(TRAIN)


def compared(**recipes: Recipe) -> pd.DataFrame:
    return summary(recipes, dict.fromkeys(recipes, EVALUATION), PUBLISHED)


def test_it_has_a_column_per_approach_and_published_figures_in_brackets() -> None:
    table = compared(one=recipe(), other_one=recipe(initial="random"))
    text = markdown(rows(table), notes(table, [], 0.25))
    start = "| weights at the start | pretrained backbone | random initialisation |"
    lines = text.splitlines()
    assert lines[:3] == ["| | one | other one |", "|---|---|---|", start]
    assert "| trainable / total parameters | 50 (25.0%) / 200 | 50 (25.0%) / 200 |" in lines
    assert "| learning rates | layer4 0.0001, fc 0.001 | layer4 0.0001, fc 0.001 |" in lines
    assert "| validation loss, not calibrated | 1.2500 (1.5000) | 1.2500 |" in lines
    assert "| **test accuracy** | **50.0% (55.0%)** | **50.0%** |" in lines
    assert lines[-1] == (
        "Test split: 8 images; always guessing its largest class gets 25.0%. "
        "In brackets: the published figures."
    )


def test_settings_have_a_row_where_the_approaches_differ() -> None:
    """Those in which they agree stand in params.yaml, and would only make the table longer."""
    strong = recipe(
        epochs=100,
        train_crop=192,
        flip_averaging=True,
        schedule="cosine",
    )
    settings = rows(compared(one=recipe(), strong=strong))[4:8]
    assert settings == [
        ["side of the crop in training, pixels", "224", "192"],
        ["averaged with the mirror image", "no", "yes"],
        ["epochs", "15", "100"],
        ["schedule of the learning rates", "constant", "cosine"],
    ]
    same = rows(compared(one=recipe(), other=recipe()))
    assert not {row[0] for row in settings} & {row[0] for row in same}


def predictions(*right: bool) -> pd.DataFrame:
    prediction = [0 if is_right else 1 for is_right in right]
    return pd.DataFrame({"id": range(len(right)), "label": 0, "prediction": prediction})


def test_every_two_approaches_are_compared_on_the_same_images() -> None:
    tables = {
        "one": predictions(True, False, False, False),
        "two": predictions(True, True, False, False),
        "three": predictions(False, True, True, True),
    }
    found = differences(tables)
    assert [(pair.first, pair.second) for pair in found] == [
        ("one", "two"),
        ("one", "three"),
        ("two", "three"),
    ]
    assert found[1].accuracy.difference == pytest.approx(0.5)
    assert (found[1].accuracy.only_first, found[1].accuracy.only_second) == (1, 3)
    assert all(pair.p_value_holm >= pair.accuracy.p_value for pair in found)
    assert list(found[0].record()) == [
        "first",
        "second",
        "difference",
        "low",
        "high",
        "only_first",
        "only_second",
        "p_value",
        "p_value_holm",
    ]


def test_predictions_for_different_images_are_not_compared() -> None:
    other = predictions(True, True).assign(id=[7, 8])
    with pytest.raises(AssertionError, match="different images"):
        differences({"one": predictions(True, True), "two": other})


def test_notes_say_how_certain_a_difference_is() -> None:
    table = compared(one=recipe(), fine_tuning=recipe())
    found = PairedDifference(0.091, 0.083, 0.099, only_first=91, only_second=650, p_value=1e-9)
    pair = Difference("one", "fine_tuning", found, p_value_holm=1e-9)
    (_, line) = notes(table, [pair], 0.25)
    assert line == (
        "fine-tuning minus one: +9.1 points of test accuracy (95 % interval +8.3 to +9.9; "
        "McNemar's exact test on 91 against 650 images, p < 0.0001)."
    )
    (_, *lines) = notes(table, [pair] * 3, 0.25)
    assert all("p < 0.0001, after Holm for 3 tests" in line for line in lines)


def test_confusion_has_the_whole_diagonal_with_names_in_the_order_of_the_classes() -> None:
    """Class 1 has no image in the test split, and class 3 is only predicted."""
    wrong = pd.DataFrame({"label": [0, 0, 0, 2], "prediction": [0, 0, 3, 2]})
    table = confusion(wrong, pd.DataFrame({"label": [0, 2], "class": ["rose", "daisy"]}))
    assert table.to_dict("list") == {
        "label": [0, 0, 1, 2, 3],
        "prediction": [0, 3, 1, 2, 3],
        "n": [2, 1, 0, 1, 0],
        "fraction": [2 / 3, 1 / 3, 0, 1, 0],
        "class": ["rose", "rose", "1", "daisy", "3"],
        "predicted": ["rose", "3", "1", "daisy", "3"],
    }


def test_curves_of_all_approaches_are_one_table() -> None:
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "train_loss": [2.0, 1.0],
            "train_accuracy": [0.1, 0.2],
            "val_loss": [3.0, 2.0],
            "val_accuracy": [0.3, 0.4],
        }
    )
    table = concatenated({"one": curves(history), "two": curves(history)})
    assert list(table) == ["approach", "split", "epoch", "loss", "accuracy"]
    assert table.to_numpy().tolist()[:4] == [
        ["one", "train", 1, 2.0, 0.1],
        ["one", "train", 2, 1.0, 0.2],
        ["one", "val", 1, 3.0, 0.3],
        ["one", "val", 2, 2.0, 0.4],
    ]
    assert table["approach"].tolist() == ["one"] * 4 + ["two"] * 4


def pair(
    first: str, second: str, accuracy: tuple[float, float, float], p_value: float
) -> Difference:
    found = PairedDifference(*accuracy, only_first=0, only_second=0, p_value=p_value)
    return Difference(first, second, found, p_value_holm=p_value)


SURELY = ((0.1, 0.08, 0.12), 0.001)
TABLE = pd.DataFrame({"approach": ["large", "small", "middle"], "trainable": [950, 10, 900]})


@pytest.mark.parametrize(
    ("accuracy", "p_value"),
    [((0.1, -0.01, 0.21), 0.04), ((0.1, 0.01, 0.19), 0.06), ((-0.1, -0.12, -0.08), 0.001)],
)
def test_without_a_sure_difference_the_smallest_change_is_recommended(
    accuracy: tuple[float, float, float], p_value: float
) -> None:
    assert recommended(TABLE[1:], [pair("small", "middle", accuracy, p_value)]) == "small"


def test_of_three_the_last_sure_step_is_recommended() -> None:
    pairs = [
        pair("small", "middle", *SURELY),
        pair("large", "small", (-0.11, -0.13, -0.09), 0.001),
        pair("large", "middle", (-0.01, -0.03, 0.01), 0.5),
    ]
    assert recommended(TABLE, pairs) == "middle"
    pairs[2] = pair("large", "middle", (-0.01, -0.015, -0.005), 0.01)
    assert recommended(TABLE, pairs) == "large"
    assert recommended(TABLE[:1], []) == "large"
