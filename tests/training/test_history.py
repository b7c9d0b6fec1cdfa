"""Whether a training went on too long, or not long enough, is said to whoever ran it."""

import pandas as pd
import pytest

from pipeline.training.history import remarks


def history(accuracies: list[float], losses: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": range(1, len(accuracies) + 1),
            "val_accuracy": accuracies,
            "val_loss": losses or [1.0] * len(accuracies),
        }
    )


def test_a_last_epoch_that_is_worse_by_more_than_chance_is_named() -> None:
    (sentence,) = remarks(history([0.5, 0.9, 0.7]), images=100, keep="last")
    assert sentence.startswith("the last epoch is worse than epoch 2 by more than chance: ")
    assert "validation accuracy 70.0% after 90.0%" in sentence


@pytest.mark.parametrize(
    ("accuracies", "images", "keep"),
    [
        ([0.5, 0.9, 0.88], 100, "last"),  # by chance
        ([0.5, 0.9, 0.7], 10, "last"),  # so few images
        ([0.5, 0.9, 0.7], 100, "best"),  # epoch 2 is kept
        ([0.0, 0.0], 10, "last"),
        ([1.0], 10, "last"),
    ],
)
def test_otherwise_nothing_is_said(accuracies: list[float], images: int, keep: str) -> None:
    assert remarks(history(accuracies), images, keep) == []


def test_a_loss_that_still_falls_says_that_training_had_not_ended() -> None:
    falls = [1.0 * 0.95**epoch for epoch in range(6)]
    (sentence,) = remarks(history([0.5] * 6, falls), images=100, keep="last")
    assert "the validation loss still fell by 5.0% an epoch" in sentence
    assert remarks(history([0.5] * 6, [*falls[:3], 0.86, 0.86, 0.86]), 100, "last") == []
