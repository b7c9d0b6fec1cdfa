"""Training: which view of which picture comes when, and the loop over them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.images import BATCH, Split, chunks, normalise
from pipeline.model import for_inference, set_mode, split
from pipeline.params import Train, Transforms
from pipeline.runtime import UserError

# Nothing is drawn from a running generator. Every random choice has an address, (purpose, seed, epoch, image id),
# so it is the same whatever ran before: another batch size, a resumed run, more workers.
VIEW, ORDER = 0, 1


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


def view(
    seed: int, epoch: int, image_id: int, height: int, width: int, crop: int, flip: float
) -> tuple[int, int, bool]:
    """Random crop and flip of one picture in one epoch: top, left, whether mirrored.

    Uniform over all positions, as ``torchvision.transforms.RandomCrop``; mirrored with probability ``flip``.
    """
    random = np.random.default_rng([VIEW, seed, epoch, image_id])
    top = int(random.integers(height - crop + 1))
    left = int(random.integers(width - crop + 1))
    return top, left, bool(random.random() < flip)


def views(images: Split, rows: np.ndarray, seed: int, epoch: int, crop: int, flip: float) -> np.ndarray:
    """The views of the pictures ``rows`` in ``epoch``: uint8 [len(rows), crop, crop, 3]."""
    batch = np.empty((len(rows), crop, crop, 3), np.uint8)
    for square, row in zip(batch, rows, strict=True):
        image = images.image(row)
        top, left, mirrored = view(seed, epoch, int(images.ids[row]), image.shape[0], image.shape[1], crop, flip)
        square[:] = image[top : top + crop, left : left + crop][:, :: -1 if mirrored else 1]
    return batch


def batches(count: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Rows 0..count-1 in the order of ``epoch``, cut into batches of ``size`` (the last may be smaller)."""
    order = np.random.default_rng([ORDER, seed, epoch]).permutation(count)
    return [order[rows] for rows in chunks(count, size)]


def fit(
    model: nn.Module,
    learning_rates: dict[str, float],
    train: Split,
    val: Split,
    params: Train,
    transforms: Transforms,
    device: torch.device,
    state: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] = lambda state: None,
) -> Iterator[Epoch]:
    """Train ``model`` in place with Adam and cross-entropy; yields after every epoch.

    What is frozen at the network's start is computed without gradient, and only once for the validation pictures,
    whose central crop never changes.

    Args:
        model: partly frozen by :func:`pipeline.model.unfreeze`.
        learning_rates: of the trained modules, by name.
        state: what ``save`` was last given, to go on from there; the epochs in it are yielded again first.
        save: called after every epoch with all that is needed to go on.

    Raises:
        UserError: the loss has become infinite or no number.
    """
    model.to(device)
    trunk, head = split(model, learning_rates)
    trunk = for_inference(trunk)
    head.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(
        [{"params": model.get_submodule(name).parameters(), "lr": rate} for name, rate in learning_rates.items()]
    )
    prefixes = tuple(f"{name}." for name in learning_rates)
    finished: list[dict[str, Any]] = []
    if state:
        model.load_state_dict(state["trained"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        finished = state["epochs"]
        yield from (Epoch(**epoch) for epoch in finished)
        if len(finished) == params.epochs:
            return

    def prepared(images: np.ndarray) -> Tensor:
        with torch.no_grad():
            return trunk(normalise(images, transforms.mean, transforms.std, device))

    val_features = _features(prepared, val, transforms.crop)
    for number in range(len(finished) + 1, params.epochs + 1):
        set_mode(model, learning_rates, training=True)
        loss_sum = correct = 0.0
        for rows in batches(len(train), params.batch_size, params.seed, number):
            images = views(train, rows, params.seed, number, transforms.crop, transforms.flip)
            labels = torch.from_numpy(train.labels[rows]).to(device)
            outputs = head(prepared(images))
            loss = cross_entropy(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(rows)
            correct += int((outputs.argmax(1) == labels).sum())
        if not math.isfinite(loss_sum):
            raise UserError(f"the training loss of epoch {number} is not finite; lower this approach's learning rates")
        set_mode(model, learning_rates, training=False)
        val_loss, val_accuracy = _evaluate(head, val_features, val.labels, device)
        epoch = Epoch(number, loss_sum / len(train), correct / len(train), val_loss, val_accuracy)
        finished.append(asdict(epoch))
        trained = {name: value for name, value in model.state_dict().items() if name.startswith(prefixes)}
        save({"trained": trained, "optimizer": optimizer.state_dict(), "epochs": finished})
        yield epoch


def _features(prepared: Callable[[np.ndarray], Tensor], images: Split, crop: int) -> np.ndarray:
    """What the trunk makes of every central crop: float32 [n, ...], in a file, so that memory stays bounded.

    The file has no name, so nothing is left of it even if the process is killed.
    """
    features = None
    for rows in chunks(len(images), BATCH):
        block = prepared(images.central(rows, crop)).cpu().numpy()
        if features is None:
            features = np.memmap(TemporaryFile(), block.dtype, "w+", shape=(len(images), *block.shape[1:]))  # noqa: SIM115
        features[rows] = block
    assert features is not None
    return features


def _evaluate(head: nn.Module, features: np.ndarray, labels: np.ndarray, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of ``head`` on ``features``."""
    loss_sum, correct = 0.0, 0
    with torch.no_grad():
        for rows in chunks(len(labels), BATCH):
            outputs = head(torch.from_numpy(features[rows]).to(device))
            truth = torch.from_numpy(labels[rows]).to(device)
            loss_sum += cross_entropy(outputs, truth, reduction="sum").item()
            correct += int((outputs.argmax(1) == truth).sum())
    return loss_sum / len(labels), correct / len(labels)
