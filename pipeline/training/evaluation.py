"""Evaluation: what follows from the logits of a split."""

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from pipeline.data.pixels import Split
from pipeline.training.calibration import calibration_error, reliability


def predictions(logits: torch.Tensor, split: Split) -> pd.DataFrame:
    """One row an image: id, label, prediction (class ids), confidence (softmax probability)."""
    confidence, prediction = logits.softmax(1).max(1)
    return pd.DataFrame(
        {
            "id": split.ids,
            "label": split.labels,
            "prediction": prediction.numpy(),
            "confidence": confidence.numpy().astype(np.float64),
        }
    )


def scores(logits: torch.Tensor, labels: np.ndarray) -> dict[str, float]:
    """Accuracies, mean cross-entropy (nats) and calibration error of a split.

    Accuracies and error are fractions; balanced accuracy is the mean of the classes' accuracies.
    Top-5 is top-k of all classes where there are fewer than five.
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
    }


def per_class(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """One row a class: label, class (name), n, accuracy, mistaken_for (most often; or empty)."""
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
