"""Scores and statistics, on cases whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from pipeline.compare import markdown, summary
from pipeline.evaluate import per_class, scores, top_classes
from pipeline.statistics import accuracy_interval, mean_interval, paired_difference

from pipeline.params import Approach, Published


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


def test_wilson_interval_of_a_textbook_case() -> None:
    """81 of 263: 0.2553 to 0.3662 (Newcombe, Statistics in Medicine 1998, table I, method 3)."""
    assert accuracy_interval(81, 263) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


def test_paired_difference_of_a_textbook_case() -> None:
    """150 voters asked twice: 80 yes both, 8 and 29 changed their minds, 33 no both."""
    first = np.array([True] * 80 + [True] * 8 + [False] * 29 + [False] * 33)
    second = np.array([True] * 80 + [False] * 8 + [True] * 29 + [False] * 33)
    result = paired_difference(first, second)
    assert result["difference"] == pytest.approx(21 / 150)
    assert (result["only_first"], result["only_second"]) == (8, 29)
    # By hand: (29.5 - 8.5) / 152 -+ 1.959964 * sqrt((29.5 + 8.5) / 152 - (21 / 152)^2) / sqrt(152)
    assert (result["low"], result["high"]) == (pytest.approx(0.06177, abs=1e-4), pytest.approx(0.21455, abs=1e-4))
    # McNemar, exact: twice the probability of at most 8 heads in 37 throws of a coin.
    assert result["p_value"] == pytest.approx(2 * sum(math.comb(37, heads) for heads in range(9)) / 2**37)


def test_interval_of_a_mean_of_a_textbook_case() -> None:
    """Student's own data: extra hours of sleep of ten patients with the second drug (Biometrika 1908); t is 2.262."""
    hours = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert mean_interval(hours) == (
        pytest.approx(2.33 - 2.262 * 2.002 / 10**0.5, abs=1e-3),
        pytest.approx(3.762, abs=1e-3),
    )


def test_equal_models_do_not_differ() -> None:
    same = np.array([True, False, True])
    result = paired_difference(same, same)
    assert result["difference"] == 0
    assert result["p_value"] == 1
    assert result["low"] < 0 < result["high"]


def test_the_interval_holds_what_it_promises() -> None:
    """95 % of the intervals of simulated experiments hold the true difference of 4 points."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        cells = random.choice(4, 300, p=[0.8, 0.06, 0.1, 0.04])
        result = paired_difference(np.isin(cells, [0, 1]), np.isin(cells, [0, 2]))
        hits += result["low"] <= 0.04 <= result["high"]
    assert 930 <= hits <= 975


def test_comparison_has_a_column_an_approach_and_published_figures_in_brackets() -> None:
    split = {"accuracy": 0.5, "top5_accuracy": 0.75, "balanced_accuracy": 0.5, "loss": 1.25, "n": 8}
    metrics = {"test": split, "val": split, "parameters": {"total": 200, "trainable": 50}}
    approach = Approach(initial="backbone", input="pixels", learning_rates={"layer4": 1e-4, "fc": 1e-3})
    published = {"one": Published(val_accuracy=0.6, val_loss=1.5, test_accuracy=0.55)}
    table = summary({"one": approach, "other_one": approach}, {"one": metrics, "other_one": metrics}, published)
    text = markdown(table, [])
    assert "| | one | other one |" in text
    assert "| trainable / total parameters | 50 (25.0%) / 200 | 50 (25.0%) / 200 |" in text
    assert "| learning rates | layer4 0.0001, fc 0.001 | layer4 0.0001, fc 0.001 |" in text
    assert "| final validation loss | 1.2500 (1.5000) | 1.2500 |" in text
    assert "| **test accuracy** | **50.0% (55.0%)** | **50.0%** |" in text
