"""Calibration, on cases worked out by hand and on probabilities that are known."""

import numpy as np
import pytest

from pipeline.training.calibration import (
    calibration_error,
    confidences,
    fit_temperature,
    reliability,
    risk_coverage,
    sure_from,
)


def test_calibration_of_a_model_that_is_right_as_often_as_it_says() -> None:
    """Of ten images at 80 %, eight are right; two more at 100 % are wrong, an error of 1."""
    confidence = np.array([0.8] * 10 + [1.0] * 2)
    correct = np.array([True] * 8 + [False] * 4)
    table = reliability(confidence, correct)
    assert table["n"].tolist() == [10, 2]
    assert table["low"].tolist() == pytest.approx([12 / 15, 14 / 15])
    assert table["high"].tolist() == pytest.approx([13 / 15, 1])
    assert table["confidence"].tolist() == pytest.approx([0.8, 1])
    assert table["accuracy"].tolist() == pytest.approx([0.8, 0])
    assert calibration_error(table) == pytest.approx(2 / 12)


def answers(count: int, scale: float, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, ``scale`` times too large, and labels drawn by the true probabilities."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(classes, p=row) for row in probabilities])
    return (logits * scale).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.5, 1.7])
def test_the_temperature_undoes_what_makes_probabilities_dishonest(scale: float) -> None:
    logits, labels = answers(4000, scale)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.06)
    correct = logits.argmax(1) == labels
    before, after = (
        calibration_error(reliability(confidences(logits, value), correct))
        for value in (1.0, temperature)
    )
    assert after < 0.02 < before


def test_few_or_easy_images_tell_no_temperature() -> None:
    assert fit_temperature(*answers(8, 1.7)) == 1
    logits, _ = answers(400, 1.0)
    assert fit_temperature(logits, logits.argmax(1)) == 1  # always right: the surer the better


def test_risk_and_coverage_of_the_most_confident_answers() -> None:
    confidence = np.array([0.9, 0.5, 0.8, 0.5])
    table = risk_coverage(confidence, np.array([True, False, True, True]))
    assert table["confidence"].tolist() == [0.9, 0.8, 0.5]
    assert table["coverage"].tolist() == [0.25, 0.5, 1]
    assert table["risk"].tolist() == [0, 0, 0.25]


def test_a_model_is_sure_from_the_confidence_on_from_which_it_is_right_often_enough() -> None:
    confidence = np.linspace(0.01, 1, 100)
    correct = confidence > 0.5
    assert sure_from(confidence, correct, 0.5) == 0
    assert sure_from(confidence, correct, 0.8) == pytest.approx(0.39)  # 50 of 62 are right
    assert sure_from(confidence, ~correct, 0.8) == 1
    assert sure_from(confidence[:20], correct[:20], 0.8) == 0  # too few to tell
    by_luck = confidence > 0.95  # five right answers say nothing
    assert sure_from(confidence, by_luck, 0.8) == 1
    assert sure_from(confidence, confidence > 0.805, 0.95) == pytest.approx(0.8)  # twenty do
