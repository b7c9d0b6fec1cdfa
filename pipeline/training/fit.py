"""Training: the loop over epochs and batches."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from pipeline.base.errors import UserError
from pipeline.base.launch import is_first
from pipeline.base.parallel import cpu_workers, parallel_map
from pipeline.compute.processes import all_reduce, broadcast, seed_of, share_of
from pipeline.data.tables import write_csv
from pipeline.data.views import to_device
from pipeline.models.freezing import PartlyTrained
from pipeline.models.frozen import Batch, Inputs, logits
from pipeline.params import Recipe
from pipeline.training.batches import TrainingRows, batch_rows
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.schedule import rate_factor

DRAWS = 2  # purpose of the random addresses of dropout and stochastic depth

# A row of the history: epoch, train_loss, train_accuracy, val_loss, val_accuracy. Losses are mean
# cross-entropy in nats, accuracies fractions. Those of training are means over the batches as they
# were (augmented, weights moving, labels smoothed, classes weighted).
Epoch = dict[str, float]


@dataclass(frozen=True)
class Data:
    """Images to train on and to validate on.

    Attributes:
        train, val: what the trained part of the network takes.
        rows: of the training split, with their labels.
        val_labels: int64 [n].
        class_weights: of the loss in training, float32 [classes], or None.
    """

    train: Inputs
    val: Inputs
    rows: TrainingRows
    val_labels: np.ndarray
    class_weights: np.ndarray | None = None


class SharedAdam(torch.optim.Adam):
    """Adam whose gradients are summed over the processes before a step."""

    def step(self, closure: Any = None) -> Any:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        all_reduce(p.grad for p in parameters if p.grad is not None)
        return super().step(closure)


def new_optimizer(network: PartlyTrained) -> SharedAdam:
    """Adam of the trained modules, each with its learning rate.

    Kingma & Ba, ICLR 2015, https://arxiv.org/abs/1412.6980.
    """
    return SharedAdam(
        {"params": list(network.whole.get_submodule(name).parameters()), "lr": rate}
        for name, rate in network.learning_rates.items()
    )


def fit(
    network: PartlyTrained,
    data: Data,
    recipe: Recipe,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Epoch]:
    """Train ``network`` in place with cross-entropy; yields after every epoch.

    At the end it has the weights of the epoch that the recipe keeps.

    Args:
        network: on ``device``.
        checkpoint: saved after every epoch; if it holds epochs of this very training, they are
            yielded again, and training goes on from there.

    Raises:
        UserError: there is only one training image, or the loss has become infinite or not a
            number.
    """
    count = len(data.rows)
    if count < 2:
        raise UserError("the training split has only one image; training needs two or more")
    network.trainable_part.to(memory_format=torch.channels_last)
    optimizer = new_optimizer(network)
    steps = len(batch_rows(count, recipe.batch_size, recipe.seed, 1))
    factor = partial(
        rate_factor,
        steps=recipe.epochs * steps,
        warm_up=recipe.warm_up * steps,
        schedule=recipe.schedule,
    )
    scheduler = LambdaLR(optimizer, factor)
    finished: list[Epoch] = []
    kept: dict[str, Tensor] = {}  # weights of the best epoch so far
    state = broadcast(checkpoint.load() if checkpoint and is_first() else None)
    if state:
        network.whole.load_state_dict(state["trained"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        finished = state["epochs"]
        kept = state["kept"]
        yield from finished

    for epoch in range(len(finished) + 1, recipe.epochs + 1):
        train_loss, train_accuracy = train_epoch(
            network, optimizer, scheduler, data, recipe, epoch, device
        )
        val_loss, val_accuracy = validate(network, data)
        result: Epoch = {
            "epoch": epoch,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
        for name in ("train_loss", "val_loss"):
            if not math.isfinite(result[name]):
                raise UserError(
                    f"{name} of epoch {epoch} is not finite; lower this approach's learning rates"
                )
        finished.append(result)
        if recipe.keep == "best" and best_epoch(finished) == epoch:
            trained = network.trained_state()
            kept = {name: value.detach().cpu().clone() for name, value in trained.items()}
        if checkpoint and is_first():
            checkpoint.save(
                {
                    "trained": network.trained_state(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                    "epochs": finished,
                    "kept": kept,
                }
            )
        yield result
    if recipe.keep == "best":
        network.whole.load_state_dict(kept, strict=False)


def best_epoch(epochs: Sequence[Epoch]) -> int:
    """The epoch with the highest validation accuracy, of equal ones that with the lowest loss."""
    best = max(epochs, key=lambda row: (row["val_accuracy"], -row["val_loss"], -row["epoch"]))
    return int(best["epoch"])


def train_epoch(
    network: PartlyTrained,
    optimizer: SharedAdam,
    scheduler: LambdaLR,
    data: Data,
    recipe: Recipe,
    epoch: int,
    device: torch.device,
) -> tuple[float, float]:
    """One pass over the training images; returns mean loss and accuracy of the batches."""
    network.train()
    losses: list[Tensor] = []  # they stay on the device: reading one would wait for it
    hits: list[Tensor] = []
    sizes: list[int] = []
    batches = batch_rows(len(data.rows), recipe.batch_size, recipe.seed, epoch)
    inputs = data.train.epoch(epoch)
    weights = data.class_weights
    weights_on_device = None if weights is None else torch.from_numpy(weights).to(device)
    for step, batch in enumerate(read_ahead(batches, data.rows, inputs, device, weights)):
        torch.manual_seed(seed_of([DRAWS, recipe.seed, epoch, step]))  # of dropout, on every device
        outputs = network(batch.images).float()
        # With weights torch divides by their sum over the images, not by the number of images.
        loss = cross_entropy(
            outputs,
            batch.labels,
            weight=weights_on_device,
            label_smoothing=recipe.label_smoothing,
        )
        loss = loss * batch.weight

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

        losses.append(loss.detach())
        hits.append(
            (outputs.argmax(1) == batch.labels).sum() if batch.weight else loss.new_zeros(())
        )
        sizes.append(len(batches[step]))
    network.eval()

    weighted = [loss * size for loss, size in zip(torch.stack(losses).tolist(), sizes, strict=True)]
    sums = torch.tensor([math.fsum(weighted), torch.stack(hits).sum().item()], dtype=torch.float64)
    all_reduce([sums])
    mean_loss, accuracy = (sums / len(data.rows)).tolist()
    return mean_loss, accuracy


def validate(network: PartlyTrained, data: Data) -> tuple[float, float]:
    """Mean loss and accuracy on the validation split."""
    outputs = logits(network, data.val)
    truth = torch.from_numpy(data.val_labels)
    accuracy = (outputs.argmax(1) == truth).double().mean().item()
    return cross_entropy(outputs, truth).item(), accuracy


@dataclass(frozen=True)
class TrainingBatch:
    """This process's share of a batch, on the device.

    Attributes:
        labels: int64 [n].
        weight: of the share in the mean over the batch, 0 to 1; 1 where there is one process.
    """

    images: Tensor
    labels: Tensor
    weight: float


def read_ahead(
    batches: list[np.ndarray],
    rows: TrainingRows,
    inputs: Batch,
    device: torch.device,
    class_weights: np.ndarray | None = None,
) -> Iterator[TrainingBatch]:
    """The batches of an epoch; the next ones are read while the network computes."""

    def read(places: np.ndarray) -> TrainingBatch:
        own, weight = share_of(places)
        if class_weights is not None and weight:
            share = class_weights[rows.labels[own]].sum(dtype=np.float64)
            weight = float(share / class_weights[rows.labels[places]].sum(dtype=np.float64))
        labels = to_device(torch.from_numpy(rows.labels[own]), device)
        return TrainingBatch(inputs(rows.rows[own]), labels, weight)

    return parallel_map(read, batches, 1 if device.type == "cpu" else cpu_workers("auto"))


def run_epochs(epochs: Iterator[Epoch], recipe: Recipe, images: int, live: Path) -> pd.DataFrame:
    """Run the epochs of :func:`fit` with a line after each; one row an epoch.

    The rows so far are in the CSV file ``live``, to be watched; those of a resumed training too.

    Args:
        images: in an epoch.
    """
    rows = []
    start = time.monotonic()
    if is_first():
        live.parent.mkdir(exist_ok=True)
        live.unlink(missing_ok=True)
    for epoch in epochs:
        rows.append(epoch)
        if is_first():
            write_csv(live, pd.DataFrame(rows))
        now = time.monotonic()
        seconds = max(now - start, 1e-9)
        start = now
        left = (recipe.epochs - epoch["epoch"]) * seconds
        print(
            f"epoch {epoch['epoch']:2}/{recipe.epochs}: "
            f"train loss {epoch['train_loss']:.4f}, accuracy {epoch['train_accuracy']:6.1%}; "
            f"val loss {epoch['val_loss']:.4f}, accuracy {epoch['val_accuracy']:6.1%}; "
            f"{images / seconds:,.0f} images/s, {left:.0f} s left",
            flush=True,
        )
    return pd.DataFrame(rows)
