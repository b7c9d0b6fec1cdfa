"""Calibration, on a case worked out by hand."""

import numpy as np
import pytest

from pipeline.training.calibration import calibration_error, reliability


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
