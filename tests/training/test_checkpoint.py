"""A killed training ends in the same bytes as one that is not; a doubtful state is refused."""

import os
import random
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.base.cache import Cache
from pipeline.models.networks import weights_digest
from pipeline.params import Recipe, read_yaml
from pipeline.training import checkpoint as module
from pipeline.training.checkpoint import Checkpoint, fingerprint
from pipeline.training.fit import Epoch, fit
from tests.conftest import Run
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
from tools.commands import environment
from tools.merge import merge
from tools.sandbox import PROJECT

RECIPES = {
    "feature_extraction": small_recipe(HEAD, epochs=4),
    "fine_tuning": small_recipe(BLOCK_AND_HEAD, epochs=4),
    "everything": small_recipe(
        {"block1": 1e-3, "block2": 1e-3, "fc": 1e-2},
        epochs=4,
        batch_size=6,
        images_per_class=5,
        train_crop=18,
        schedule="cosine",
        warm_up=2,
        label_smoothing=0.1,
        precision="bf16",
    ),
    "padded and weighted": small_recipe(
        BLOCK_AND_HEAD, epochs=4, fit="pad", class_weights="balanced", images_per_class=5
    ),
    # So high a rate that the last epoch is not the best.
    "best epoch": small_recipe({"fc": 0.3}, epochs=5, keep="best"),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return write_small_data(tmp_path_factory.mktemp("data"))


def train(
    images: SmallData, recipe: Recipe, folder: Path, epochs: int | None = None
) -> tuple[list[Epoch], str]:
    """Train in ``folder``, which may hold the state of a training that was killed.

    Args:
        epochs: after which the training is killed; None to finish it.

    Returns:
        The history and the digest of the weights.
    """
    torch.manual_seed(random.randrange(2**32))  # a process of its own
    training = small_training(images, recipe, Cache(folder / "cache", 10**9))
    state = Checkpoint(folder / "state", "0" * 64)
    history = []
    for row in fit(training.network, training.data, recipe, CPU, state):
        history.append(row)
        if len(history) == epochs:
            break
    return history, weights_digest(training.network.whole.state_dict())


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_a_resumed_training_ends_in_the_same_bytes(
    images: SmallData, tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = train(images, recipe, tmp_path / "undisturbed")
    for kills in ([3], [1, 2]):
        folder = tmp_path / str(kills)
        for epochs in kills:
            history, _ = train(images, recipe, folder, epochs)
            assert history == undisturbed[0][:epochs]
        capsys.readouterr()
        assert train(images, recipe, folder) == undisturbed
        assert capsys.readouterr().out == f"resumed from {folder / 'state'}\n"


def test_a_finished_training_that_is_run_again_trains_nothing(
    images: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the last epoch and writing the model."""
    recipe = RECIPES["fine_tuning"]
    first = train(images, recipe, tmp_path)
    monkeypatch.setattr("pipeline.training.fit.train_epoch", None)
    assert train(images, recipe, tmp_path) == first


def saved(path: Path) -> Checkpoint:
    checkpoint = Checkpoint(path, "0" * 64)
    checkpoint.save({"trained": {"fc.weight": torch.rand(9_000)}, "epochs": [{"epoch": 1}]})
    return checkpoint


def test_a_state_comes_back_until_it_is_discarded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = saved(tmp_path / "folder" / "state")
    state = checkpoint.load()
    assert state
    assert state["epochs"] == [{"epoch": 1}]
    assert len(state["trained"]["fc.weight"]) == 9_000
    checkpoint.discard()
    capsys.readouterr()
    assert checkpoint.load() is None
    assert not capsys.readouterr().out
    checkpoint.discard()


@pytest.mark.parametrize("place", [64, 100, 128, 5000, -1])
def test_a_flipped_bit_in_checksum_or_content_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    checkpoint = saved(tmp_path / "state")
    flip_bit(checkpoint.path, place)
    assert checkpoint.load() is None
    expected = f"{checkpoint.path}: damaged, not resumed; starting over\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("size", [0, 50, 130, 5000])
def test_half_a_state_is_refused(tmp_path: Path, size: int) -> None:
    checkpoint = saved(tmp_path / "state")
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:size])
    assert checkpoint.load() is None


def test_a_state_of_another_training_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "state")
    other = Checkpoint(tmp_path / "state", "1" * 64)
    assert other.load() is None
    assert capsys.readouterr().out == (
        f"{tmp_path / 'state'}: belongs to other params, data, weights, code or environment, "
        "not resumed; starting over\n"
    )


def test_a_fingerprint_is_of_files_values_code_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backbone"
    code = tmp_path / "more.py"
    file.write_text("weights")
    code.write_text("a = 1")
    values = ["fine_tuning", {"epochs": 2}]
    first = fingerprint([file], values)
    assert len(first) == 64
    assert fingerprint([file], values) == first
    found = {first, fingerprint([file], ["fine_tuning", {"epochs": 3}])}
    file.write_text("others")
    found.add(fingerprint([file], values))
    file.write_text("weights")

    loaded = types.ModuleType("stages.more")
    loaded.__file__ = str(code)
    monkeypatch.setitem(sys.modules, "stages.more", loaded)
    found.add(fingerprint([file], values))
    code.write_text("a = 2")
    found.add(fingerprint([file], values))
    monkeypatch.delitem(sys.modules, "stages.more")
    assert fingerprint([file], values) == first

    monkeypatch.setattr(module, "environment", lambda: {"torch": "another version"})
    found.add(fingerprint([file], values))
    assert len(found) == 6


TRAINED = """
import sys
from pathlib import Path
from tests.small import write_small_data
from tests.training.test_checkpoint import RECIPES, train
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
images = write_small_data(folder)
print("begins", flush=True)
recipe = RECIPES["fine_tuning"].model_copy(update={"epochs": 30})
history, digest = train(images, recipe, folder)
print(history[-1], digest)
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    """A training in another process, about to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINED, str(folder)],
        cwd=PROJECT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "begins\n"
    return process


@pytest.mark.slow
def test_killed_at_random_moments_again_and_again(tmp_path: Path) -> None:
    """In the middle of a step too, and while the state or an entry of the cache is written."""
    undisturbed = start(tmp_path / "undisturbed").communicate()[0]
    chance = random.Random(0)
    kills = 0
    while True:
        process = start(tmp_path / "killed")
        try:
            # Kills lie ever further apart, so that the training comes to an end on any machine.
            printed = process.communicate(timeout=chance.uniform(0, 0.4 + 0.6 * kills))[0]
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert kills >= 3
    assert printed.splitlines()[-1] == undisturbed.splitlines()[-1]


@pytest.mark.slow
def test_dvc_repro_continues_after_the_last_finished_epoch(
    project: Path, copy: Path, run: Run
) -> None:
    """DVC and the stage are killed together, as by a power cut; DVC deletes outs, not the state."""
    stage = "train@fine_tuning"
    changes = {"train": {"epochs": 200}}
    params = merge(read_yaml(copy / "params.yaml"), changes)
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    undisturbed = copy.with_name("undisturbed")
    shutil.copytree(copy, undisturbed, symlinks=True)
    assert run(undisturbed, "stages", "train", "fine_tuning").returncode == 0

    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", stage],
        cwd=copy,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("epoch  3/200"):
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.communicate()
    state = copy / ".resume" / "fine_tuning"
    assert state.exists()
    (copy / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)  # a kill can leave it empty
    result = run(copy, "dvc", "repro", stage)
    assert result.returncode == 0, result.stdout
    assert "resumed from .resume/fine_tuning" in result.stdout
    assert not state.exists()
    for file in ("history/fine_tuning.csv", "models/fine_tuning.safetensors"):
        assert (copy / file).read_bytes() == (undisturbed / file).read_bytes()
