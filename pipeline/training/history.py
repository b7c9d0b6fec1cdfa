"""What the history of a training says: whether it went on too long, or not long enough."""

import math

import pandas as pd

LAST = 3  # epochs at the end over which the loss is compared
FALL = 0.02  # of the validation loss in an epoch, beyond which a training had not ended
CHANCE = 1.96  # standard errors: two accuracies that differ by less may differ by chance


def remarks(history: pd.DataFrame, images: int, keep: str) -> list[str]:
    """Sentences about the end of a training, for people; none if there is nothing to say.

    The last epoch is worse than the best by more than chance if their accuracies differ by more
    than 1.96 standard errors, as of two samples. That is cautious: both are of the same images.

    Args:
        history: columns epoch, val_loss (nats), val_accuracy (a fraction), a row an epoch.
        images: of the validation split.
        keep: last or best, as in params.yaml.
    """
    found = []
    last = history.iloc[-1]
    best = history.iloc[history["val_accuracy"].argmax()]
    variance = sum(p * (1 - p) / images for p in (best["val_accuracy"], last["val_accuracy"]))
    difference = best["val_accuracy"] - last["val_accuracy"]
    if keep == "last" and difference > CHANCE * math.sqrt(variance):
        found.append(
            f"the last epoch is worse than epoch {best['epoch']:.0f} by more than chance: "
            f"validation accuracy {last['val_accuracy']:.1%} after {best['val_accuracy']:.1%}; "
            "train for fewer epochs, or say keep: best"
        )
    if len(history) > LAST:
        earlier = history["val_loss"].iloc[-1 - LAST]
        fall = 1 - (last["val_loss"] / earlier) ** (1 / LAST)
        if fall > FALL:
            found.append(
                f"training had not ended: the validation loss still fell by {fall:.1%} an epoch; "
                "train for more epochs"
            )
    return found
