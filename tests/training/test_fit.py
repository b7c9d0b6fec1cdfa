"""Training: an order of its own each epoch, and what is frozen does not move."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.base.errors import UserError
from pipeline.data.pixels import Split
from pipeline.data.views import pixel_inputs
from pipeline.models.networks import new_network, read_backbone
from pipeline.models.sections import section, unfreeze
from pipeline.models.storage import load_model, weights_digest
from pipeline.params import load_params
from pipeline.training.fit import batches, few, fit, learning_rate, parameter_groups, recipe
from pipeline.training.params import Approach
from tests.conftest import Run
from tools.sandbox import PROJECT


def test_batches_hold_every_image_once_in_an_order_of_their_own_each_epoch() -> None:
    first = batches(1020, 32, seed=0, epoch=1)
    assert [len(batch) for batch in first] == [32] * 31 + [28]
    assert sorted(np.concatenate(first)) == list(range(1020))
    assert not np.array_equal(np.concatenate(first), np.concatenate(batches(1020, 32, seed=0, epoch=2)))
    assert np.array_equal(np.concatenate(first), np.concatenate(batches(1020, 64, seed=0, epoch=1)))


def test_a_single_image_that_is_left_over_goes_with_the_batch_before_it() -> None:
    """BatchNorm cannot be trained on one image."""
    assert [len(batch) for batch in batches(9, 4, seed=0, epoch=1)] == [4, 5]
    assert [len(batch) for batch in batches(10, 4, seed=0, epoch=1)] == [4, 4, 2]
    assert sorted(np.concatenate(batches(9, 4, seed=0, epoch=1))) == list(range(9))


def test_fewer_images_are_nested_and_make_an_epoch_of_the_same_length() -> None:
    labels, ids = np.repeat([0, 1, 2], [10, 4, 2]), np.arange(100, 116)
    split = (lambda rows, epoch: torch.from_numpy(ids[rows]), labels)

    def chosen(per_class: int, seed: int) -> list[int]:
        inputs, found = few(split, ids, per_class, seed)
        images = inputs(np.arange(16), 1).tolist()
        assert len(found) == 16
        assert np.array_equal(found, labels[np.array(images) - 100])
        times = np.unique(images, return_counts=True)[1]
        assert times.max() - times.min() <= 1
        return sorted(set(images))

    one, three, ten = (chosen(number, seed=0) for number in (1, 3, 10))
    assert np.bincount(labels[np.array(one) - 100]).tolist() == [1, 1, 1]
    assert np.bincount(labels[np.array(three) - 100]).tolist() == [3, 3, 2]
    assert set(one) < set(three) < set(ten) == set(ids)
    assert chosen(1, seed=1) != one
    assert few(split, ids, "all", seed=0) is split


def test_an_approach_says_what_differs_and_train_the_rest() -> None:
    train = load_params(PROJECT / "params.yaml").train
    approach = Approach(initial="backbone", input="pixels", learning_rates={"fc": 1e-3})
    assert recipe(train, approach) == train
    own = recipe(train, approach.model_copy(update={"epochs": 40, "schedule": "cosine", "precision": "bf16"}))
    assert own == train.model_copy(update={"epochs": 40, "schedule": "cosine"})


def test_learning_rates_rise_and_stay_or_fall_to_0() -> None:
    assert [learning_rate(step, 8, 0, "constant") for step in range(8)] == [1.0] * 8
    assert [learning_rate(step, 8, 2, "constant") for step in range(4)] == [0.5, 1, 1, 1]
    cosine = [learning_rate(step, 8, 2, "cosine") for step in range(8)]
    assert cosine[:3] == [0.5, 1, 1]
    assert cosine[2:] == sorted(cosine[2:], reverse=True)
    assert cosine[5] == pytest.approx(0.5)
    reference = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(reference, 6)
    for rate in cosine[2:]:
        assert rate == pytest.approx(schedule.get_last_lr()[0])
        reference.step()
        schedule.step()


def test_only_weights_decay_and_without_decay_it_is_adam_to_the_bit() -> None:
    model = new_network("resnet18", None, 4, seed=0)
    rates = {"layer4": 1e-4, "fc": 1e-3}
    groups = parameter_groups(model, rates, 0.05)
    decays = {id(value): group["weight_decay"] for group in groups for value in group["params"]}
    names = {name: decays[id(value)] for name, value in model.named_parameters() if id(value) in decays}
    assert {name for name, decay in names.items() if decay} == {
        name for name in names if model.get_parameter(name).ndim > 1
    }
    assert len(names) == sum(1 for name, _ in model.named_parameters() if name.startswith(("layer4.", "fc.")))

    results = []
    for kind in (torch.optim.AdamW, torch.optim.Adam):
        network = new_network("resnet18", None, 4, seed=0)
        optimizer = kind(parameter_groups(network, rates, 0.0))
        for step in range(3):
            for value in network.parameters():
                value.grad = torch.full_like(value, 0.1 * (step - 1)) + value.detach()
            optimizer.step()
        results.append(network.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


@pytest.mark.parametrize(("approach", "trained"), [("feature_extraction", "fc."), ("fine_tuning", ("layer4.", "fc."))])
def test_frozen_means_frozen(project: Path, approach: str, trained: str | tuple[str, ...]) -> None:
    """After a real run: every frozen parameter and buffer equals the backbone's, and the others have moved."""
    backbone = read_backbone(project / "data" / "drawn" / "backbone")
    model, header = load_model(project / "models" / f"{approach}.safetensors")
    start = new_network("resnet18", backbone, len(header["classes"]), seed=0).state_dict()
    for name, value in model.state_dict().items():
        if name.startswith(trained):
            assert not torch.equal(value, start[name]), f"{name} has not been trained"
        else:
            assert torch.equal(value, backbone[name]), f"{name} has moved"


def test_a_loss_that_is_not_finite_stops_the_training(project: Path) -> None:
    params = load_params(project / "params.yaml")
    model, rates = new_network("resnet18", None, 4, seed=0), {"fc": 1e-3}
    unfreeze(model, rates, "key")
    with torch.no_grad():
        model.get_parameter("fc.weight").fill_(math.inf)
    cpu, images = torch.device("cpu"), Split(project / "data" / "pixels", "train")
    data = pixel_inputs(images, params.transforms.model_dump(), cpu), images.labels
    with pytest.raises(UserError, match=r"loss of epoch 1 is not finite; lower this approach's learning rates"):
        list(fit(model, section(model), rates, data, data, params.train, cpu))
    one = data[0], images.labels[:1]
    with pytest.raises(UserError, match=r"the training split has only one image"):
        list(fit(model, section(model), rates, one, data, params.train, cpu))


def test_history_has_a_row_an_epoch_and_the_header_all_that_is_needed(project: Path) -> None:
    history = pd.read_csv(project / "history" / "fine_tuning.csv")
    assert list(history) == ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    assert history["epoch"].tolist() == [1, 2]
    assert history["train_accuracy"].between(0, 1).all()
    _, header = load_model(project / "models" / "fine_tuning.safetensors")
    assert header["approach"] == "fine_tuning"
    assert header["transforms"]["crop"] == 32
    assert header["classes"] == ["species 1", "species 2", "species 3", "species 4"]


@pytest.mark.usefixtures("two_threads")
def test_two_threads_train_to_the_same_bytes_each_time() -> None:
    """The pipeline's runs in the tests have one thread, the experiment has two."""
    images, labels = torch.rand(24, 3, 64, 64, generator=torch.Generator().manual_seed(0)), np.arange(24) % 4
    split, digests = (lambda rows, epoch: images[rows], labels), set()
    params = load_params(PROJECT / "params.yaml").train.model_copy(update={"epochs": 2, "batch_size": 8})
    for _ in range(3):
        model = new_network("resnet18", None, 4, seed=0)
        rates = unfreeze(model, {"layer4": 1e-3, "fc": 1e-3}, "approaches.fine_tuning.learning_rates")
        assert len(list(fit(model, section(model), rates, split, split, params, torch.device("cpu")))) == 2
        digests.add(weights_digest(model.state_dict()))
    assert len(digests) == 1


def test_last_validation_loss_is_that_of_the_evaluation(project: Path, run: Run) -> None:
    """Training scores the network it trains, evaluation the one in the file: the same."""
    metrics = pd.read_json(project / "metrics" / "fine_tuning.json")
    history = pd.read_csv(project / "history" / "fine_tuning.csv")
    assert metrics["val"]["loss"] == pytest.approx(history["val_loss"].iloc[-1], abs=1e-4)
    assert metrics["val"]["accuracy"] == pytest.approx(history["val_accuracy"].iloc[-1], abs=1e-6)
