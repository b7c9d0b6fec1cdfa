"""Training: the loop over epochs and batches."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.base.errors import UserError
from pipeline.base.parallel import parallel_map
from pipeline.data.views import Inputs, chunks
from pipeline.models.features import predict
from pipeline.models.sections import set_mode

if TYPE_CHECKING:
    from pipeline.training.checkpoint import Checkpoint
    from pipeline.training.params import Train

ORDER = 1  # purpose of a random address, as VIEW in pipeline/data/views.py


@dataclass(frozen=True)
class Epoch:
    """One row of the history. Losses are mean cross-entropy in nats, accuracies fractions.

    Training figures are means over the epoch's batches as they were trained on (augmented, weights moving).
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


def batches(count: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Rows 0..count-1 in the order of ``epoch``, cut into batches of ``size`` (the last may be smaller)."""
    order = np.random.default_rng([ORDER, seed, epoch]).permutation(count)
    return [order[rows] for rows in chunks(count, size)]


def fit(
    model: nn.Module,
    head: nn.Module,
    learning_rates: dict[str, float],
    train: tuple[Inputs, np.ndarray],
    val: tuple[Inputs, np.ndarray],
    params: "Train",
    device: torch.device,
    checkpoint: "Checkpoint | None" = None,
) -> Iterator[Epoch]:
    """Train ``model`` in place with Adam and cross-entropy; yields after every epoch.

    Args:
        model: partly frozen by :func:`pipeline.models.sections.unfreeze`, on ``device``.
        head: the part of it that follows the inputs; all of it, or :func:`pipeline.models.sections.section`.
        learning_rates: of the trained modules, by name.
        train, val: inputs and labels (int64 [n]) of a split.
        checkpoint: saved after every epoch; if it holds epochs of this very training, they are yielded again, and
            training goes on from there.

    Raises:
        UserError: the loss has become infinite or no number.
    """
    head.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(
        [{"params": model.get_submodule(name).parameters(), "lr": rate} for name, rate in learning_rates.items()]
    )
    prefixes = tuple(f"{name}." for name in learning_rates)
    finished: list[dict[str, Any]] = []
    if checkpoint and (state := checkpoint.load()):
        model.load_state_dict(state["trained"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        finished = state["epochs"]
        yield from (Epoch(**epoch) for epoch in finished)

    inputs, labels = train
    for number in range(len(finished) + 1, params.epochs + 1):
        set_mode(model, learning_rates, training=True)
        loss_sum = correct = 0.0
        order = batches(len(labels), params.batch_size, params.seed, number)
        # The next inputs are read while the network computes.
        ahead = parallel_map(lambda wanted: inputs(*wanted), [(rows, number) for rows in order], workers=1)
        for rows, batch in zip(order, ahead, strict=True):
            truth = torch.from_numpy(labels[rows]).to(device)
            logits = head(batch).float()
            loss = cross_entropy(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(rows)
            correct += int((logits.argmax(1) == truth).sum())
        if not math.isfinite(loss_sum):
            raise UserError(f"the training loss of epoch {number} is not finite; lower this approach's learning rates")
        set_mode(model, learning_rates, training=False)
        val_loss, val_accuracy = _evaluate(head, *val, device)
        epoch = Epoch(number, loss_sum / len(labels), correct / len(labels), val_loss, val_accuracy)
        finished.append(asdict(epoch))
        trained = {name: value for name, value in model.state_dict().items() if name.startswith(prefixes)}
        if checkpoint:
            checkpoint.save({"trained": trained, "optimizer": optimizer.state_dict(), "epochs": finished})
        yield epoch


def _evaluate(head: nn.Module, inputs: Inputs, labels: np.ndarray, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of ``head`` on the central crops of a split."""
    truth = torch.from_numpy(labels)
    logits = predict(head, inputs, len(labels), device)
    return cross_entropy(logits, truth).item(), (logits.argmax(1) == truth).double().mean().item()


def history(epochs: Iterator[Epoch], total: int, images: int) -> pd.DataFrame:
    """Train epoch after epoch, printing a line after each; returns a row an epoch.

    Args:
        epochs: from :func:`fit`.
        total: number of epochs.
        images: in the training split.
    """
    rows, start = [], time.monotonic()
    for epoch in epochs:
        rows.append(asdict(epoch))
        now = time.monotonic()
        took, start = now - start, now
        left = (total - epoch.epoch) * took
        print(
            f"epoch {epoch.epoch:2}/{total}: "
            f"train loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:6.1%}; "
            f"val loss {epoch.val_loss:.4f}, accuracy {epoch.val_accuracy:6.1%}; "
            f"{images / max(took, 1e-9):,.0f} images/s, {left:.0f} s left",
            flush=True,
        )
    return pd.DataFrame(rows)
