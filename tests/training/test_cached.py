"""The cache changes no byte of a training or an evaluation, whatever state it is in."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.base.cache import GIGABYTE, Cache
from pipeline.data import pixels
from pipeline.models import frozen
from pipeline.models.files import TrainedModel, split_classifier
from pipeline.models.frozen import Inputs, logits
from pipeline.models.networks import weights_digest
from pipeline.training.fit import Epoch, fit
from tests.conftest import HEADER
from tests.small import (
    BLOCK_AND_HEAD,
    CPU,
    HEAD,
    SmallData,
    flip_bit,
    small_recipe,
    small_training,
    write_small_data,
)

RECIPES = {"feature_extraction": small_recipe(HEAD), "fine_tuning": small_recipe(BLOCK_AND_HEAD)}
TRAINED = [list(recipe.learning_rates) for recipe in RECIPES.values()]


@dataclass(frozen=True)
class Result:
    """What an experiment of two approaches gives, for each of them.

    Attributes:
        logits: of the test split.
    """

    weights: list[str]
    histories: list[list[Epoch]]
    logits: list[Tensor]

    def is_the_same_as(self, other: "Result") -> bool:
        return (
            self.weights == other.weights
            and self.histories == other.histories
            and all(map(torch.equal, self.logits, other.logits))
        )


def experiment(images: SmallData, folder: Path, limit: int = GIGABYTE) -> Result:
    """Train and evaluate both approaches; each stage opens the cache anew, as a process does."""
    result = Result([], [], [])
    for recipe in RECIPES.values():
        training = small_training(images, recipe, Cache(folder, limit), TRAINED)
        result.histories.append(list(fit(training.network, training.data, recipe, CPU)))
        network = training.network.whole
        result.weights.append(weights_digest(network.state_dict()))
        opened = Cache(folder, limit)
        header = HEADER.model_copy(update={"trained": list(recipe.learning_rates), "crop": 16})
        beginning, classifier = split_classifier(TrainedModel(network, header), TRAINED, CPU)
        views = images.views("test", opened, None)
        result.logits.append(logits(classifier, Inputs(views, beginning.parts, opened)))
    return result


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallData]:
    """Of which a split has several entries in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "SHARD", 8)
        patch.setattr(frozen, "ROWS", 16)
        yield write_small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def without_cache(images: SmallData, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return experiment(images, tmp_path_factory.mktemp("off") / "cache", limit=0)


@pytest.fixture(scope="module")
def filled(images: SmallData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds all that the experiment needs."""
    folder = tmp_path_factory.mktemp("filled") / "cache"
    experiment(images, folder)
    return folder


def size(folder: Path) -> int:
    """Bytes of all entries."""
    return sum(stat.st_size for stat in Cache(folder, GIGABYTE).files().values())


def every(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.rglob("*") if path.is_file()))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)


def full(folder: Path) -> None:
    pass


def half_there(folder: Path) -> None:
    for place, path in enumerate(every(folder)):
        if place % 2:
            path.unlink()


def damaged(folder: Path) -> None:
    """A flipped bit, in the header, at the end or between; an entry cut short."""
    for place, path in enumerate(every(folder)):
        flip_bit(path, place=(20, -1, -200)[place % 3])
        if place % 4 == 0:
            os.truncate(path, path.stat().st_size // 2)


def left_by_killed_processes(folder: Path) -> None:
    for path in every(folder):
        path.rename(path.with_name(f"{path.name}.{2**22 + 1}.part"))


def replaced_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file in its place")


@pytest.mark.parametrize(
    "change", [empty, full, half_there, damaged, left_by_killed_processes, replaced_by_a_file]
)
def test_the_state_of_the_cache_changes_no_byte(
    images: SmallData,
    without_cache: Result,
    filled: Path,
    tmp_path: Path,
    change: Callable[[Path], None],
) -> None:
    """And afterwards it holds nothing but what it should; what was not needed may be missing."""
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    change(folder)
    assert experiment(images, folder).is_the_same_as(without_cache)
    if change is not replaced_by_a_file:
        found = {path.relative_to(folder): path.read_bytes() for path in every(folder)}
        right = {path.relative_to(filled): path.read_bytes() for path in every(filled)}
        assert found.items() <= right.items()


@pytest.mark.parametrize("share", [0.001, 0.2, 0.6])
def test_the_limit_of_the_cache_changes_no_byte(
    images: SmallData, without_cache: Result, filled: Path, tmp_path: Path, share: float
) -> None:
    limit = int(share * size(filled))
    for _ in range(2):
        found = experiment(images, tmp_path / "cache", limit)
        assert found.is_the_same_as(without_cache)
        assert size(tmp_path / "cache") <= limit


def test_a_full_disk_changes_no_byte(
    images: SmallData, without_cache: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes full in the middle of the experiment."""
    checks = 0

    def disk_usage(folder: Path) -> SimpleNamespace:
        nonlocal checks
        checks += 1
        return SimpleNamespace(free=0 if checks > 6 else 10 * GIGABYTE)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert experiment(images, tmp_path / "cache").is_the_same_as(without_cache)
    assert len(list(every(tmp_path / "cache"))) == 6


def test_a_cache_deleted_meanwhile_changes_no_byte(
    images: SmallData, without_cache: Result, filled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    recipe = RECIPES["fine_tuning"]
    training = small_training(images, recipe, Cache(folder, GIGABYTE), TRAINED)
    history = []
    for epoch in fit(training.network, training.data, recipe, CPU):
        history.append(epoch)
        shutil.rmtree(folder)
    assert history == without_cache.histories[1]
    assert weights_digest(training.network.whole.state_dict()) == without_cache.weights[1]


def test_more_epochs_compute_only_the_new_ones_and_another_rate_none(
    images: SmallData, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    run_on_threads = frozen.run_on_threads

    def counted(
        network: torch.nn.Module, batch: frozen.Batch, rows: list[np.ndarray]
    ) -> Iterator[Tensor]:
        computed.append(sum(map(len, rows)))
        return run_on_threads(network, batch, rows)

    def images_computed(**changes: object) -> int:
        """How many images pass frozen layers in a training of fine-tuning."""
        recipe = RECIPES["fine_tuning"].model_copy(update=changes)
        training = small_training(images, recipe, Cache(folder, GIGABYTE), TRAINED)
        computed.clear()
        for epoch in range(1, recipe.epochs + 1):
            training.data.train.epoch(epoch)
        for _ in training.data.val.in_order():
            pass
        return sum(computed)

    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    monkeypatch.setattr(frozen, "run_on_threads", counted)
    train = len(images.splits["train"])
    assert images_computed() == 0
    assert images_computed(epochs=5) == 3 * train
    assert images_computed(epochs=5, learning_rates={"block2": 3e-4, "fc": 1e-2}) == 0
    assert images_computed(batch_size=4, warm_up=1, schedule="cosine") == 0
    assert images_computed(precision="bf16") > 0
