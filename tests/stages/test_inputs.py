"""What several stages open: one cache for a process, and for all experiments of a clone."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.base.cache import GIGABYTE
from pipeline.data.views import EVALUATION
from pipeline.params import Approach, Runtime, load_params
from stages._inputs import open_cache, open_views, preprocessing_of, trained_by_others
from tests.small import CPU, small_network
from tools.sandbox import PROJECT

RUNTIME = Runtime(device="cpu", launch="", workers=1, cache=1.5)


def test_all_of_a_process_use_one_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it knows which entries this process needs."""
    monkeypatch.chdir(tmp_path)
    cache = open_cache(RUNTIME)
    assert open_cache(RUNTIME) is cache
    assert cache.folder == tmp_path / ".cache"
    assert cache.limit == 1.5 * GIGABYTE


def test_experiments_in_a_copy_use_the_cache_of_their_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert open_cache(RUNTIME).folder == tmp_path / ".cache"


def test_training_sees_random_squares_of_its_own_side(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    params = load_params("params.yaml")
    recipe = Approach(learning_rates={"fc": 1e-3}, train_crop=24).recipe(params.train)
    preprocessing = preprocessing_of(params, recipe)
    views = open_views("train", preprocessing, RUNTIME, CPU, recipe)
    rows = np.array([0, 1])
    assert views.batch(rows, epoch=1).shape == (2, 3, 24, 24)
    assert views.batch(rows, EVALUATION).shape == (2, 3, recipe.crop, recipe.crop)


def test_only_approaches_with_the_same_views_share_a_beginning() -> None:
    defaults = load_params(PROJECT / "params.yaml")
    approaches = {
        "first": Approach(learning_rates={"head": 1e-3}),
        "second": Approach(learning_rates={"block2": 1e-4, "fc": 1e-3}, epochs=3),
        "other views": Approach(learning_rates={"block1": 1e-3, "fc": 1e-3}, flip=0.0),
        "random": Approach(learning_rates={"block1": 1e-3, "fc": 1e-3}, initial="random"),
        "mistaken": Approach(learning_rates={"layer5": 1e-3, "fc": 1e-3}),
    }
    params = defaults.model_copy(update={"approaches": approaches})
    recipe = approaches["first"].recipe(params.train)
    assert trained_by_others(params, recipe, small_network()) == [["fc"], ["block2", "fc"]]
