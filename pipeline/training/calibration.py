"""Calibration: whether a model is right as often as its confidence says, and what makes it so."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15  # of confidence, equally wide
BOUND = 3.0  # of the logarithm of a temperature, in both directions
LARGEST_ERROR = 0.25  # standard error of that logarithm, above which a temperature is not known
SMALLEST = 50  # images of validation with which "unsure" can be said
FEWEST = 20  # answers among them of which the share that is right says something


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


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes probabilities honest: softmax(logits / temperature).

    It minimises the cross-entropy of validation images (Guo et al., ICML 2017,
    https://arxiv.org/abs/1706.04599) and moves no prediction.

    Args:
        logits: float [n, classes], of images that the model was not trained on.
        labels: int [n].

    Returns:
        A positive number; 1 where the images are too few, or too easy, to tell one: where the
        standard error of its logarithm, by the curvature of the loss, is above a quarter.
    """
    values = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(values / np.exp(log_temperature), axis=1)
        return float(-scaled[rows, labels].sum())

    best = float(minimize_scalar(loss, bounds=(-BOUND, BOUND), method="bounded").x)
    step = 0.05
    curvature = (loss(best + step) - 2 * loss(best) + loss(best - step)) / step**2
    is_known = curvature * LARGEST_ERROR**2 > 1 and abs(best) < BOUND - 2 * step
    return round(float(np.exp(best)), 6) if is_known else 1.0


def sure_from(confidence: np.ndarray, correct: np.ndarray, right: float) -> float:
    """The confidence from which on a share ``right`` of the answers is right, and below not.

    Selective classification (Geifman & El-Yaniv, NeurIPS 2017, https://arxiv.org/abs/1705.08500).

    Args:
        confidence: of validation images, float [n].
        correct: bool [n].
        right: share of the answers, 0 to 1.

    Returns:
        0 if all answers together are right as often, or if the images are too few to tell; 1 if
        not even the most confident are.
    """
    if len(confidence) < SMALLEST or correct.mean() >= right:
        return 0.0
    curve = risk_coverage(confidence, correct)
    has_enough = curve["coverage"] * len(confidence) > FEWEST - 0.5
    good = curve[has_enough & (1 - curve["risk"] >= right)]
    return float(good["confidence"].iloc[-1]) if len(good) else 1.0


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """How often answers are wrong if only the most confident ones are given.

    Args:
        confidence: float [n].
        correct: bool [n].

    Returns:
        A row for each confidence that occurs, from the highest: confidence, coverage (share of the
        images that have at least that much) and risk (share of those that are wrong).
    """
    table = pd.DataFrame({"confidence": confidence, "wrong": ~correct, "n": 1})
    steps = table.groupby("confidence").sum().sort_index(ascending=False).cumsum()
    return pd.DataFrame(
        {
            "confidence": steps.index.to_numpy(),
            "coverage": (steps["n"] / len(confidence)).to_numpy(),
            "risk": (steps["wrong"] / steps["n"]).to_numpy(),
        }
    )


def confidences(logits: np.ndarray, temperature: float) -> np.ndarray:
    """The largest probability of each image, float64 [n]."""
    highest: np.ndarray = softmax(logits.astype(np.float64) / temperature, axis=1).max(axis=1)
    return highest


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
