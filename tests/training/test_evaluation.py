"""Scores, on cases whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.data.pixels import Split
from pipeline.training.evaluation import per_class, predictions, scores, top_classes


def test_scores_of_known_predictions() -> None:
    """Class 0: 3 of 4 right; class 1: 1 of 2; balanced accuracy weighs them the same."""
    labels = np.array([0, 0, 0, 0, 1, 1])
    logits = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2 + [[1.0, 0.0]])
    right = np.log(1 + np.exp(-1))
    wrong = np.log(1 + np.exp(1))
    confidence = 1 / (1 + np.exp(-1))
    assert scores(logits, labels) == {
        "accuracy": pytest.approx(4 / 6, abs=1e-6),
        "top5_accuracy": 1,
        "balanced_accuracy": pytest.approx((3 / 4 + 1 / 2) / 2, abs=1e-6),
        "loss": pytest.approx(right * 4 / 6 + wrong * 2 / 6, abs=1e-6),
        "calibration_error": pytest.approx(confidence - 4 / 6, abs=1e-6),
    }


def test_top5_counts_the_fifth_and_not_the_sixth() -> None:
    logits = torch.arange(10.0, 0, -1).repeat(2, 1)
    assert scores(logits, np.array([4, 5]))["top5_accuracy"] == 0.5


def test_predictions_are_the_most_probable_classes_in_the_order_of_the_split() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]))
    split = Split("test", ["b", "a"], np.array([9, 4]), np.array([1, 2]), ["", ""])
    table = predictions(logits, split)
    assert list(table) == ["id", "label", "prediction", "confidence"]
    assert table["id"].tolist() == [9, 4]
    assert table["label"].tolist() == [1, 2]
    assert table["prediction"].tolist() == [1, 0]
    assert table["confidence"].tolist() == pytest.approx([0.7, 0.6])


def test_per_class_names_the_commonest_mistake() -> None:
    labels = [0, 0, 0, 0, 1]
    table = pd.DataFrame({"label": labels, "prediction": [0, 2, 1, 2, 1]})
    result = per_class(table, ["rose", "lily", "iris"])
    assert result["accuracy"].tolist() == [0.25, 1]
    assert result["mistaken_for"].tolist() == ["iris", ""]
    assert result["n"].tolist() == [4, 1]
    assert result["class"].tolist() == ["rose", "lily"]


def test_top_classes_are_sorted_probabilities() -> None:
    top = top_classes(torch.log(torch.tensor([0.1, 0.6, 0.3])), ["a", "b", "c"], count=2)
    assert top["class"].tolist() == ["b", "c"]
    assert top["probability"].tolist() == pytest.approx([0.6, 0.3])
