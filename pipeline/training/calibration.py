"""Calibration: whether a model is right as often as its confidence says."""

import numpy as np
import pandas as pd

BINS = 15  # of confidence, equally wide


def reliability(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """Accuracy by confidence: one row for each bin of confidence that holds images.

    Args:
        confidence: softmax probability of the predicted class, float [n].
        correct: bool [n].

    Returns:
        Columns low, high (edges of the bin), n (images), confidence and accuracy (means of the
        bin), all but n fractions.
    """
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    images = pd.DataFrame(
        {
            "low": place / BINS,
            "high": (place + 1) / BINS,
            "confidence": confidence,
            "accuracy": correct,
        }
    )
    bins = images.groupby(["low", "high"])
    return bins.size().rename("n").to_frame().join(bins.mean()).reset_index()


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error: distance of accuracy and confidence, mean over the images.

    Guo et al., ICML 2017, https://arxiv.org/abs/1706.04599.

    Args:
        table: by :func:`reliability`.

    Returns:
        A fraction; 0 is calibrated.
    """
    distance = (table["accuracy"] - table["confidence"]).abs()
    return float(np.average(distance, weights=table["n"]))
