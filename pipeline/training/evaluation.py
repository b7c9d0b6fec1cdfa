"""Evaluation: what follows from the logits of a split."""

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from pipeline.data.pixels import Split


def predictions(logits: torch.Tensor, images: Split) -> pd.DataFrame:
    """One row an image: id, label, prediction (classes), confidence (softmax probability of the prediction)."""
    confidence, prediction = logits.softmax(1).max(1)
    columns = {"id": images.ids, "label": images.labels, "prediction": prediction.numpy()}
    return pd.DataFrame(columns | {"confidence": confidence.numpy().astype(np.float64)})


BINS = 15  # of confidence


def reliability(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """How often a model is right when it says how sure it is: a row for each bin of confidence that holds images.

    Args:
        confidence: softmax probability of the predicted class, float [n].
        correct: bool [n].

    Returns:
        Columns low, high (edges of the bin), n (images), confidence and accuracy (means, fractions).
    """
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    images = pd.DataFrame(
        {"low": place / BINS, "high": (place + 1) / BINS, "confidence": confidence, "accuracy": correct}
    )
    groups = images.groupby(["low", "high"])
    return groups.size().rename("n").to_frame().join(groups.mean()).reset_index()


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error (Guo et al., ICML 2017): mean distance of accuracy and confidence over the images.

    Args:
        table: by :func:`reliability`.

    Returns:
        A fraction; 0 is calibrated.
    """
    return float(np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["n"]))


def scores(logits: torch.Tensor, labels: np.ndarray) -> dict[str, float | int]:
    """Top-1, top-5 and balanced accuracy (mean of the classes' accuracies), mean cross-entropy in nats, calibration
    error and n.

    Accuracies and error are fractions. Top-5 is top-k of all classes where there are fewer than five.
    """
    truth = torch.from_numpy(labels)
    correct = logits.argmax(1) == truth
    top5 = (logits.topk(min(5, logits.shape[1])).indices == truth[:, None]).any(1)
    classwise = pd.Series(correct.numpy()).groupby(labels).mean()
    confidence = logits.softmax(1).amax(1).double().numpy()
    return {
        "accuracy": round(correct.double().mean().item(), 6),
        "top5_accuracy": round(top5.double().mean().item(), 6),
        "balanced_accuracy": round(float(classwise.mean()), 6),
        "loss": round(cross_entropy(logits.double(), truth).item(), 6),
        "calibration_error": round(calibration_error(reliability(confidence, correct.numpy())), 6),
        "n": len(labels),
    }


def per_class(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """One row a class: label, class (name), n, accuracy, and the class it is most often mistaken for (or empty)."""
    wrong = table[table["label"] != table["prediction"]].groupby("label")["prediction"]
    rows = table.groupby("label").size().rename("n").reset_index()
    mistakes = rows["label"].map(wrong.size()).fillna(0)
    rows.insert(1, "class", [names[label] for label in rows["label"]])
    rows["accuracy"] = (1 - mistakes / rows["n"]).round(6)
    commonest = wrong.agg(lambda classes: classes.mode()[0]).map(dict(enumerate(names)))
    return rows.assign(mistaken_for=rows["label"].map(commonest).fillna(""))


def top_classes(logits: torch.Tensor, names: list[str], count: int = 5) -> pd.DataFrame:
    """The ``count`` most probable classes of one image: class, probability (softmax, fraction).

    Args:
        logits: float [classes], on the CPU.
    """
    probability, place = logits.double().softmax(0).topk(min(count, len(names)))
    return pd.DataFrame({"class": [names[i] for i in place], "probability": probability.numpy()})
