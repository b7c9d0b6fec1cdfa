"""Scores, on cases whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.training.evaluation import calibration_error, per_class, reliability, scores, top_classes


def test_scores_of_known_predictions() -> None:
    """Class 0: 3 of 4 right; class 1: 1 of 2; balanced accuracy weighs them the same."""
    labels = np.array([0, 0, 0, 0, 1, 1])
    logits = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2 + [[1.0, 0.0]])
    result = scores(logits, labels)
    assert result["accuracy"] == pytest.approx(4 / 6, abs=1e-6)
    assert result["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2, abs=1e-6)
    assert result["top5_accuracy"] == 1
    assert result["loss"] == pytest.approx(np.log(1 + np.exp(-1)) * 4 / 6 + np.log(1 + np.exp(1)) * 2 / 6, abs=1e-6)
    assert result["n"] == 6


def test_top5_counts_the_fifth_and_not_the_sixth() -> None:
    logits = torch.arange(10.0, 0, -1).repeat(2, 1)
    assert scores(logits, np.array([4, 5]))["top5_accuracy"] == 0.5


def test_calibration_of_a_model_that_is_right_as_often_as_it_says() -> None:
    """Of ten images at 80 %, eight are right; two more at 100 % are wrong: an error of 1 for 2 of 12 images."""
    confidence, correct = np.array([0.8] * 10 + [1.0] * 2), np.array([True] * 8 + [False] * 4)
    table = reliability(confidence, correct)
    assert table["n"].tolist() == [10, 2]
    assert table[["low", "high"]].to_numpy().flatten() == pytest.approx([12 / 15, 13 / 15, 14 / 15, 1])
    assert table["accuracy"].tolist() == pytest.approx([0.8, 0])
    assert calibration_error(table) == pytest.approx(2 / 12)
    logits = torch.log(torch.tensor([[0.75, 0.25]] * 4))
    assert scores(logits, np.array([0, 0, 0, 1]))["calibration_error"] == pytest.approx(0, abs=1e-6)


def test_per_class_names_the_commonest_mistake() -> None:
    table = pd.DataFrame({"label": [0, 0, 0, 1], "prediction": [0, 2, 2, 1]})
    result = per_class(table, ["rose", "lily", "iris"])
    assert result["accuracy"].tolist() == [pytest.approx(1 / 3, abs=1e-6), 1]
    assert result["mistaken_for"].tolist() == ["iris", ""]
    assert result["n"].tolist() == [3, 1]


def test_top_classes_are_sorted_probabilities() -> None:
    top = top_classes(torch.log(torch.tensor([0.1, 0.6, 0.3])), ["a", "b", "c"], count=2)
    assert top["class"].tolist() == ["b", "c"]
    assert top["probability"].tolist() == pytest.approx([0.6, 0.3])
