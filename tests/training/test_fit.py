"""Training: what is frozen does not move, and what is trained moves as the recipe says."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.base.cache import Cache
from pipeline.base.errors import UserError
from pipeline.compute import processes
from pipeline.data.views import EVALUATION
from pipeline.models.freezing import PartlyTrained
from pipeline.models.networks import weights_digest
from pipeline.params import Recipe
from pipeline.training.batches import TrainingRows, batch_rows, weights_of_classes
from pipeline.training.fit import (
    Epoch,
    SharedAdam,
    TrainingBatch,
    best_epoch,
    fit,
    new_optimizer,
    read_ahead,
    run_epochs,
)
from pipeline.training.schedule import rate_factor
from tests.small import (
    BLOCK_AND_HEAD,
    CLASSES,
    COUNTS,
    CPU,
    HEAD,
    SmallData,
    Training,
    small_network,
    small_recipe,
    small_training,
    write_small_data,
)

WHOLE = {"block1": 1e-3, "block2": 1e-3, "fc": 1e-2}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return write_small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 10**9)


def run(training: Training) -> list[Epoch]:
    return list(fit(training.network, training.data, training.recipe, CPU))


@pytest.mark.parametrize("rates", [HEAD, BLOCK_AND_HEAD, WHOLE])
def test_frozen_means_frozen(images: SmallData, cache: Cache, rates: dict[str, float]) -> None:
    """Every frozen parameter and buffer is that of the backbone; all others have moved."""
    training = small_training(images, small_recipe(rates), cache)
    run(training)
    after = training.network.whole.state_dict()
    for name, value in small_network().state_dict().items():
        is_trained = name.startswith(tuple(f"{module}." for module in rates))
        assert torch.equal(value, after[name]) != is_trained, name
    assert not training.network.whole.training
    assert len(training.data.train.parts) == (0 if rates is WHOLE else 1)


def views_of(training: Training, name: str, epoch: int) -> tuple[Tensor, Tensor]:
    """All views of a split in an epoch, and their labels."""
    views = getattr(training.data, name).views
    rows = np.arange(len(views))
    return views.batch(rows, epoch), torch.from_numpy(views.pixels.split.labels)


@pytest.mark.parametrize("rates", [HEAD, BLOCK_AND_HEAD])
def test_a_row_of_the_history_is_of_the_views_of_its_epoch(
    images: SmallData, cache: Cache, rates: dict[str, float]
) -> None:
    """With rates too small to move anything: the network is the one before the training."""
    recipe = small_recipe(dict.fromkeys(rates, 1e-12), label_smoothing=0.2)
    training = small_training(images, recipe, cache)
    network = small_network()
    history = run(training)
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        inputs, labels = views_of(training, "train", int(row["epoch"]))
        network.get_submodule("block2").train("block2" in rates)
        with torch.no_grad():
            batches = batch_rows(len(labels), recipe.batch_size, recipe.seed, int(row["epoch"]))
            logits = torch.cat([network(inputs[batch]) for batch in batches])
        order = np.concatenate(batches)
        loss = cross_entropy(logits, labels[order], label_smoothing=0.2)
        assert row["train_loss"] == pytest.approx(loss.item(), rel=1e-4)
        hits = (logits.argmax(1) == labels[order]).double().mean().item()
        assert row["train_accuracy"] == pytest.approx(hits)


def test_the_last_validation_is_of_the_trained_network(images: SmallData, cache: Cache) -> None:
    training = small_training(images, small_recipe(BLOCK_AND_HEAD), cache)
    *_, last = run(training)
    assert not any(module.training for module in training.network.whole.modules())
    inputs, labels = views_of(training, "val", EVALUATION)
    with torch.no_grad():
        logits = training.network.whole(inputs)
    assert last["val_loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-4)
    hits = (logits.argmax(1) == labels).double().mean().item()
    assert last["val_accuracy"] == pytest.approx(hits)


def test_the_best_epoch_is_kept_if_the_recipe_says_so(images: SmallData, cache: Cache) -> None:
    """At so high a rate the last one is not the best."""

    def train(**changes: Any) -> tuple[list[Epoch], str]:
        training = small_training(images, small_recipe({"fc": 0.3}, **changes), cache)
        history = list(fit(training.network, training.data, training.recipe, CPU))
        return history, weights_digest(training.network.whole.state_dict())

    history, weights = train(epochs=5, keep="best")
    best = best_epoch(history)
    assert best < 5
    assert history[best - 1]["val_accuracy"] == max(row["val_accuracy"] for row in history)
    assert train(epochs=best) == (history[:best], weights)
    assert train(epochs=5)[0] == history


def test_of_equally_accurate_epochs_the_best_has_the_lowest_loss() -> None:
    rows = [(1, 0.5, 1.0), (2, 0.8, 0.9), (3, 0.8, 0.7), (4, 0.8, 0.7)]
    keys = ("epoch", "val_accuracy", "val_loss")
    assert best_epoch([dict(zip(keys, row, strict=True)) for row in rows]) == 3


def test_training_lowers_the_loss(images: SmallData, cache: Cache) -> None:
    recipe = small_recipe({"block2": 1e-2, "fc": 1e-1}, epochs=8, flip=0.0)
    history = run(small_training(images, recipe, cache))
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]


@pytest.mark.parametrize("images_per_class", ["all", 2])
def test_batches_come_in_the_order_of_their_epoch(
    images: SmallData, cache: Cache, images_per_class: int | str
) -> None:
    recipe = small_recipe(images_per_class=images_per_class)
    training = small_training(images, recipe, cache)
    rows = training.data.rows
    batches = batch_rows(len(rows), 8, seed=0, epoch=2)
    asked = []

    def inputs(rows: np.ndarray) -> Tensor:
        asked.append(rows.tolist())
        return torch.from_numpy(rows)

    found = list(read_ahead(batches, rows, inputs, CPU))
    assert asked == [rows.rows[batch].tolist() for batch in batches]
    for batch, places in zip(found, batches, strict=True):
        assert batch.images.tolist() == rows.rows[places].tolist()
        assert batch.labels.tolist() == rows.labels[places].tolist()
        assert batch.weight == 1


def unbalanced(images: SmallData, cache: Cache, recipe: Recipe) -> Training:
    """A training on ten images of the first class, three of the second and one of the third."""
    training = small_training(images, recipe, cache)
    labels = training.data.rows.labels
    chosen = [np.flatnonzero(labels == place)[:count] for place, count in enumerate([7, 3, 1])]
    rows = np.concatenate([*chosen, chosen[0][:3]])
    weights = weights_of_classes(recipe.class_weights, labels[rows], CLASSES)
    data = replace(training.data, rows=TrainingRows(rows, labels[rows]), class_weights=weights)
    return replace(training, data=data)


def test_the_loss_of_an_image_is_weighted_by_its_class(
    images: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training, where a batch is the weighted mean of its images; and so are its gradients.

    With rates too small to move anything: the network is the one before the training.
    """
    gradients: list[Tensor] = []
    step = SharedAdam.step

    def recorded(self: SharedAdam, closure: Any = None) -> Any:
        parameter = self.param_groups[0]["params"][0]
        gradients.append(parameter.grad.clone())
        return step(self, closure)

    monkeypatch.setattr(SharedAdam, "step", recorded)
    recipe = small_recipe({"fc": 1e-12}, epochs=1, class_weights="balanced")
    training = unbalanced(images, cache, recipe)
    (row,) = run(training)

    network = small_network().requires_grad_(True)
    inputs, _ = views_of(training, "train", 1)
    rows = training.data.rows
    weight_of = np.array([14 / (3 * 10), 14 / (3 * 3), 14 / (3 * 1)])
    losses = []
    for places, found in zip(batch_rows(14, 8, 0, 1), gradients, strict=True):
        labels = torch.from_numpy(rows.labels[places])
        weights = torch.from_numpy(weight_of[rows.labels[places]]).float()
        each = cross_entropy(network(inputs[rows.rows[places]]), labels, reduction="none")
        loss = (weights * each).sum() / weights.sum()
        (expected,) = torch.autograd.grad(loss, [network.get_parameter("fc.weight")])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        losses += [loss.item()] * len(places)
    assert row["train_loss"] == pytest.approx(np.mean(losses), rel=1e-4)

    inputs, labels = views_of(training, "val", EVALUATION)
    with torch.no_grad():
        unweighted = cross_entropy(network(inputs), labels).item()
    assert row["val_loss"] == pytest.approx(unweighted, rel=1e-4)


def test_weighted_losses_of_the_shares_add_up_to_that_of_the_batch(
    images: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where three processes share it, and the last has nothing left to do."""
    recipe = small_recipe(batch_size=8, class_weights="balanced", label_smoothing=0.1)
    data = unbalanced(images, cache, recipe).data
    assert data.class_weights is not None
    weights = torch.from_numpy(data.class_weights)
    logits = torch.randn(COUNTS["train"], CLASSES, generator=torch.Generator().manual_seed(0))

    def loss(batch: TrainingBatch) -> float:
        found = cross_entropy(batch.images, batch.labels, weights, label_smoothing=0.1)
        return found.item() * batch.weight

    for places in (np.arange(14), np.array([3, 9, 13, 0, 1]), np.array([13, 0])):
        batch = [places]
        totals = []
        for size in (1, 3):
            monkeypatch.setattr(processes, "SIZE", size)
            total = 0.0
            for rank in range(size):
                monkeypatch.setattr(processes, "RANK", rank)
                read = read_ahead(
                    batch, data.rows, lambda rows: logits[rows], CPU, data.class_weights
                )
                total += sum(loss(share) for share in read)
            totals.append(total)
        assert totals[1] == pytest.approx(totals[0], rel=1e-5)


def test_only_the_chosen_images_are_trained_on(images: SmallData, cache: Cache) -> None:
    """All others may look like anything."""
    results = []
    for value in (0.0, 100.0):
        recipe = small_recipe(images_per_class=2, flip=0.0)
        training = small_training(images, recipe, cache)
        rows = training.data.rows
        assert len(rows) == COUNTS["train"]
        assert len(set(rows.rows.tolist())) == 6
        epoch = training.data.train.epoch

        def changed(number: int, value: float = value, rows: Any = rows, epoch: Any = epoch) -> Any:
            outputs = epoch(number)(np.arange(COUNTS["train"]))
            others = np.setdiff1d(np.arange(COUNTS["train"]), rows.rows)
            outputs[others] = value
            return lambda wanted: outputs[wanted]

        object.__setattr__(training.data.train, "epoch", changed)
        run(training)
        results.append(weights_digest(training.network.whole.state_dict()))
    assert results[0] == results[1]


def test_every_step_has_the_rates_of_the_schedule(
    images: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[list[float]] = []
    step = SharedAdam.step

    def recorded(self: SharedAdam, closure: Any = None) -> Any:
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, closure)

    monkeypatch.setattr(SharedAdam, "step", recorded)
    recipe = small_recipe(BLOCK_AND_HEAD, epochs=3, warm_up=1, schedule="cosine")
    run(small_training(images, recipe, cache))
    factors = [rate_factor(number, 9, 3, "cosine") for number in range(9)]
    assert [found[0] for found in rates] == pytest.approx([1e-3 * factor for factor in factors])
    assert [found[-1] for found in rates] == pytest.approx([1e-2 * factor for factor in factors])


def test_every_trained_module_has_its_learning_rate() -> None:
    network = PartlyTrained(small_network(), BLOCK_AND_HEAD)
    rates = {
        id(parameter): group["lr"]
        for group in new_optimizer(network).param_groups
        for parameter in group["params"]
    }
    named = network.whole.named_parameters()
    assert {name: rates[id(value)] for name, value in named if id(value) in rates} == {
        "block2.0.weight": 1e-3,
        "block2.1.weight": 1e-3,
        "block2.1.bias": 1e-3,
        "fc.weight": 1e-2,
        "fc.bias": 1e-2,
    }


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_a_share_of_a_batch_counts_by_its_weight(
    images: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch, weight: float
) -> None:
    """As in one of several processes; the others' part of the sums is missing here."""
    recipe = small_recipe({"fc": 1e-12}, epochs=1)
    (whole,) = run(small_training(images, recipe, cache))
    monkeypatch.setattr("pipeline.training.fit.share_of", lambda places: (places, weight))
    (share,) = run(small_training(images, recipe, cache))
    assert share["train_loss"] == pytest.approx(weight * whole["train_loss"], rel=1e-5)
    assert share["train_accuracy"] == (whole["train_accuracy"] if weight else 0)
    assert share["val_loss"] == whole["val_loss"]


def test_gradients_are_summed_over_the_processes_before_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here as if another process had found a gradient of 1 everywhere."""

    def add_other(tensors: Iterator[Tensor]) -> None:
        for tensor in tensors:
            tensor += 1

    weights = []
    for own, all_reduce in ((0.5, add_other), (1.5, list)):
        monkeypatch.setattr("pipeline.training.fit.all_reduce", all_reduce)
        network = PartlyTrained(small_network(), BLOCK_AND_HEAD)
        optimizer = new_optimizer(network)
        for sign in (1, -1):
            for value in network.whole.parameters():
                value.grad = torch.full_like(value, own if sign > 0 else own - 2)
            optimizer.step()
        weights.append(weights_digest(network.whole.state_dict()))
    assert weights[0] == weights[1]
    assert weights[0] != weights_digest(small_network().state_dict())


def test_a_loss_that_is_not_finite_stops_the_training(images: SmallData, cache: Cache) -> None:
    message = r"^train_loss of epoch 1 is not finite; lower this approach's learning rates$"
    training = small_training(images, small_recipe(), cache)
    with torch.no_grad():
        training.network.whole.get_parameter("fc.weight").fill_(math.inf)
    with pytest.raises(UserError, match=message):
        run(training)


def test_a_validation_loss_that_is_not_finite_stops_it_too(
    images: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.training.fit.validate", lambda *arguments: (math.nan, 0.0))
    with pytest.raises(UserError, match="val_loss of epoch 1 is not finite"):
        run(small_training(images, small_recipe(), cache))


def test_a_single_image_is_refused(tmp_path: Path, cache: Cache) -> None:
    images = write_small_data(tmp_path, {"train": 1, "val": 2})
    message = "the training split has only one image; training needs two or more"
    with pytest.raises(UserError, match=message):
        run(small_training(images, small_recipe(), cache))
    two = write_small_data(tmp_path, {"train": 2, "val": 2})
    assert len(run(small_training(two, small_recipe(BLOCK_AND_HEAD), cache))) == 2


@pytest.mark.usefixtures("two_threads")
def test_two_threads_train_to_the_same_bytes_each_time(images: SmallData, cache: Cache) -> None:
    """Most tests have one thread, the experiment has two."""
    digests = set()
    for _ in range(3):
        training = small_training(images, small_recipe(WHOLE, batch_size=21), cache)
        run(training)
        digests.add(weights_digest(training.network.whole.state_dict()))
    assert len(digests) == 1


def epochs(rows: Sequence[Epoch], watched: Path, seen: list[int]) -> Iterator[Epoch]:
    for row in rows:
        seen.append(len(pd.read_csv(watched)) if watched.exists() else 0)
        yield row


def test_each_epoch_is_a_line_and_a_row_to_be_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {"train_loss": 0.5, "train_accuracy": 0.25, "val_loss": 0.75, "val_accuracy": 1.0}
    rows = [{"epoch": epoch, **losses} for epoch in (1, 2)]
    live = tmp_path / "live" / "x.csv"
    live.parent.mkdir()
    live.write_text("epoch\n1\n2\n3\n")  # of an earlier training
    seen: list[int] = []
    history = run_epochs(epochs(rows, live, seen), small_recipe(), images=21, live=live)
    assert history.to_dict("records") == rows
    assert seen == [0, 1]
    assert pd.read_csv(live).to_dict("records") == rows
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "epoch  1/2: train loss 0.5000, accuracy  25.0%; val loss 0.7500, accuracy 100.0%; "
    )
    assert second.endswith(" 0 s left")
