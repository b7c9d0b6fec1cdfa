"""Training: the loop over epochs and batches."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.base.checkpoint import Checkpoint
from pipeline.base.distributed import add_up, agreed
from pipeline.base.errors import UserError
from pipeline.base.files import write_csv
from pipeline.base.launch import RANK, SIZE
from pipeline.base.parallel import cpu_workers, parallel_map
from pipeline.data.views import Inputs
from pipeline.models.features import collect, outputs
from pipeline.models.sections import set_mode
from pipeline.training.params import Approach, Train

ORDER, NETWORK, SUBSET = 1, 2, 3  # purposes of random addresses, as VIEW in pipeline/data/views.py

# A row of the history: epoch, train_loss, train_accuracy, val_loss, val_accuracy. Losses are mean cross-entropy in
# nats, accuracies fractions. Those of training are means over the batches as they were (augmented, weights moving,
# labels smoothed).
Epoch = dict[str, float]


def recipe(train: Train, approach: Approach) -> Train:
    """What an approach says of its training, and for the rest what ``train`` says."""
    own = {key: value for key, value in approach.model_dump(exclude_none=True).items() if key in Train.model_fields}
    return Train(**(train.model_dump() | own))


def learning_rate(step: int, steps: int, warm_up: int, schedule: str) -> float:
    """The share of its learning rate that a module has in a step (0 is the first), 0 to 1.

    It rises in equal parts in the first ``warm_up`` steps; then it stays (constant), or falls to 0 by half a cosine
    (Loshchilov & Hutter, ICLR 2017, https://arxiv.org/abs/1608.03983, without restarts).
    """
    if step < warm_up:
        return (step + 1) / warm_up
    return 1.0 if schedule == "constant" else (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2


def parameter_groups(model: nn.Module, learning_rates: dict[str, float], decay: float) -> list[dict[str, Any]]:
    """What the optimizer trains: of each module the weights, and apart from them, without decay, biases and BatchNorm.

    Args:
        decay: of the weights, decoupled (AdamW; Loshchilov & Hutter, ICLR 2019, https://arxiv.org/abs/1711.05101).
    """
    groups = []
    for name, rate in learning_rates.items():
        for matrices in (True, False):
            parameters = [value for value in model.get_submodule(name).parameters() if (value.ndim > 1) == matrices]
            groups.append({"params": parameters, "lr": rate, "weight_decay": decay if matrices else 0.0})
    return groups


def batches(count: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Rows 0..count-1 in the order of ``epoch``, cut into batches of ``size``; the last may be smaller.

    A single row that is left over goes with the batch before it: BatchNorm cannot be trained on one image.
    """
    order = np.random.default_rng([ORDER, seed, epoch]).permutation(count)
    return np.split(order, range(size, count - 1, size))


def few(
    split: tuple[Inputs, np.ndarray], ids: np.ndarray, per_class: int | str, seed: int
) -> tuple[Inputs, np.ndarray]:
    """A training split with at most ``per_class`` images of each class, repeated so that an epoch keeps its length.

    Equal epochs make equal numbers of steps, so that results differ by the images alone. Every image has a random place
    in its class, by (seed, image id), so the images of a smaller ``per_class`` are among those of a larger one.

    Args:
        split: inputs and labels (int64 [n]).
        ids: of its images, int64 [n].
        per_class: a number, or all (the split as it is).

    Returns:
        Inputs and labels of n rows, the chosen images in turn.
    """
    if isinstance(per_class, str):
        return split
    inputs, labels = split
    place = pd.Series([np.random.default_rng([SUBSET, seed, number]).random() for number in ids.tolist()])
    rank = place.groupby(labels).rank(method="first").to_numpy()
    rows = np.resize(np.flatnonzero(rank <= per_class), len(labels))
    return lambda wanted, epoch: inputs(rows[wanted], epoch), labels[rows]


def seed_network(seed: int, epoch: int, step: int) -> None:
    """Give what a network draws in one step (dropout, stochastic depth) its address, on every device."""
    address = [NETWORK, seed, epoch, step, *([RANK] if RANK else [])]  # each process has images of its own
    state = np.random.SeedSequence(address).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))


def fit(
    model: nn.Module,
    head: nn.Module,
    learning_rates: dict[str, float],
    train: tuple[Inputs, np.ndarray],
    val: tuple[Inputs, np.ndarray],
    params: Train,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Epoch]:
    """Train ``model`` in place with AdamW (Adam, without weight decay) and cross-entropy; yields after every epoch.

    Args:
        model: partly frozen by :func:`pipeline.models.sections.unfreeze`, on ``device``.
        head: the part of it that follows the inputs; all of it, or :func:`pipeline.models.sections.section`.
        learning_rates: of the trained modules, by name.
        train, val: inputs and labels (int64 [n]) of a split.
        params: by :func:`recipe`.
        checkpoint: saved after every epoch; if it holds epochs of this very training, they are yielded again, and
            training goes on from there.

    Raises:
        UserError: there is only one training image, or the loss has become infinite or no number.
    """
    if len(train[1]) < 2:
        raise UserError("the training split has only one image; training needs two or more")
    head.to(memory_format=torch.channels_last)
    groups = parameter_groups(model, learning_rates, params.weight_decay)
    rates = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups)
    prefixes = tuple(f"{name}." for name in learning_rates)
    finished: list[Epoch] = []
    if checkpoint and (state := agreed(None if RANK else checkpoint.load())):
        model.load_state_dict(state["trained"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        finished = state["epochs"]
        yield from finished

    inputs, labels = train
    for number in range(len(finished) + 1, params.epochs + 1):
        set_mode(model, learning_rates, training=True)
        sums = torch.zeros(2, dtype=torch.float64)  # of loss and of right answers
        order = batches(len(labels), params.batch_size, params.seed, number)
        first, steps, warm_up = ((count * len(order)) for count in (number - 1, params.epochs, params.warm_up))
        # The next inputs are read while the network computes; beside an accelerator by all cores.
        workers = 1 if device.type == "cpu" else cpu_workers("auto")
        own = [rows[RANK::SIZE] if len(rows) > RANK else rows[:1] for rows in order]
        ahead = parallel_map(lambda wanted: inputs(*wanted), [(rows, number) for rows in own], workers)
        for step, (whole, rows, batch) in enumerate(zip(order, own, ahead, strict=True)):
            share = len(whole[RANK::SIZE]) / len(whole)  # of the batch; other processes have the rest
            truth = torch.from_numpy(labels[rows]).to(device)
            seed_network(params.seed, number, step)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * learning_rate(first + step, steps, warm_up, params.schedule)
            logits = head(batch).float()
            loss = cross_entropy(logits, truth, label_smoothing=params.label_smoothing) * share
            optimizer.zero_grad()
            loss.backward()
            add_up(parameter.grad for parameter in model.parameters() if parameter.grad is not None)
            optimizer.step()
            correct = int((logits.argmax(1) == truth).sum()) if share else 0
            sums += torch.tensor([loss.item() * len(whole), correct], dtype=torch.float64)
        set_mode(model, learning_rates, training=False)
        add_up([sums])
        train_loss, train_accuracy = (sums / len(labels)).tolist()
        epoch: Epoch = {"epoch": number, "train_loss": train_loss, "train_accuracy": train_accuracy}
        val_logits, val_truth = collect(outputs(head, val[0], len(val[1]), 0, device)), torch.from_numpy(val[1])
        epoch["val_loss"] = cross_entropy(val_logits, val_truth).item()
        epoch["val_accuracy"] = (val_logits.argmax(1) == val_truth).double().mean().item()
        for name in ("train_loss", "val_loss"):
            if not math.isfinite(epoch[name]):
                raise UserError(f"{name} of epoch {number} is not finite; lower this approach's learning rates")
        finished.append(epoch)
        trained = {name: value for name, value in model.state_dict().items() if name.startswith(prefixes)}
        if checkpoint and not RANK:
            checkpoint.save({"trained": trained, "optimizer": optimizer.state_dict(), "epochs": finished})
        yield epoch


def history(epochs: Iterator[Epoch], total: int, images: int, live: Path) -> pd.DataFrame:
    """Run the ``total`` epochs of :func:`fit`, over a number of ``images``, with a line after each; a row an epoch.

    The rows so far are in the CSV file ``live``, to be watched; those of a resumed training too.
    """
    rows, start = [], time.monotonic()
    if not RANK:
        live.parent.mkdir(exist_ok=True)
        live.unlink(missing_ok=True)
    for epoch in epochs:
        rows.append(epoch)
        if not RANK:
            write_csv(live, pd.DataFrame(rows))
        took, start = time.monotonic() - start, time.monotonic()
        print(
            f"epoch {epoch['epoch']:2}/{total}: "
            f"train loss {epoch['train_loss']:.4f}, accuracy {epoch['train_accuracy']:6.1%}; "
            f"val loss {epoch['val_loss']:.4f}, accuracy {epoch['val_accuracy']:6.1%}; "
            f"{images / max(took, 1e-9):,.0f} images/s, {(total - epoch['epoch']) * took:.0f} s left",
            flush=True,
        )
    return pd.DataFrame(rows)
