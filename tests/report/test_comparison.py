"""The comparison, for people."""

import pandas as pd

from pipeline.report.comparison import confusion, markdown, notes, rows, summary
from pipeline.report.params import Published
from pipeline.training.params import Approach


def test_comparison_has_a_column_an_approach_and_published_figures_in_brackets() -> None:
    split = {"accuracy": 0.5, "top5_accuracy": 0.75, "balanced_accuracy": 0.5, "loss": 1.25, "n": 8}
    metrics = {"test": split, "val": split, "parameters": {"total": 200, "trainable": 50}}
    approach = Approach(initial="backbone", input="pixels_320", learning_rates={"layer4": 1e-4, "fc": 1e-3})
    other = approach.model_copy(update={"input": "layer3"})
    published = {"one": Published(val_accuracy=0.6, val_loss=1.5, test_accuracy=0.55)}
    table = summary({"one": approach, "other_one": other}, {"one": metrics, "other_one": metrics}, published)
    text = markdown(rows(table), notes(table, [], 0.25))
    assert "| | one | other one |" in text
    assert "Test split: 8 images; always guessing its largest class gets 25.0%." in text
    assert "| trainable / total parameters | 50 (25.0%) / 200 | 50 (25.0%) / 200 |" in text
    assert "| trained on | pixels_320 | the output of layer3 |" in text
    assert "| learning rates | layer4 0.0001, fc 0.001 | layer4 0.0001, fc 0.001 |" in text
    assert "| final validation loss | 1.2500 (1.5000) | 1.2500 |" in text
    assert "| **test accuracy** | **50.0% (55.0%)** | **50.0%** |" in text


def test_confusion_has_the_whole_diagonal_with_names_in_the_order_of_the_classes() -> None:
    """Class 1 has no image in the test split, class 3 is predicted alone."""
    predictions = pd.DataFrame({"label": [0, 0, 0, 2], "prediction": [0, 0, 3, 2]})
    table = confusion(predictions, pd.DataFrame({"label": [0, 2], "class": ["rose", "daisy"]}))
    assert table.to_dict("list") == {
        "label": [0, 0, 1, 2, 3],
        "prediction": [0, 3, 1, 2, 3],
        "n": [2, 1, 0, 1, 0],
        "fraction": [2 / 3, 1 / 3, 0, 1, 0],
        "class": ["rose", "rose", "1", "daisy", "3"],
        "predicted": ["rose", "3", "1", "daisy", "3"],
    }
