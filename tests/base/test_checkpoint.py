"""What is killed, at any moment and in any way, ends in the same bytes as what is not: training, features."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.base.checkpoint import Checkpoint, store
from pipeline.base.files import hex_digest
from pipeline.params import read_yaml
from tests.conftest import Run
from tests.test_faults import flip
from tools.sandbox import environment, merge

APPROACHES = ("feature_extraction", "fine_tuning", "own_recipe")
# With all that an approach may say of its training.
CHANGES: dict[str, Any] = {
    "train": {"epochs": 30},
    "sizes": {"pixels_48": {"resize": 48, "crop": 40}},
    "approaches": {
        "fine_tuning": {"epochs": 10},
        "own_recipe": {
            "initial": "backbone",
            "input": "pixels_48",
            "resized_crop": {"size": 36, "scale": 0.3},
            "learning_rates": {"layer4": 1e-4, "fc": 1e-3},
            "epochs": 9,
            "batch_size": 6,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "warm_up": 3,
            "label_smoothing": 0.1,
            "precision": "bf16",
        },
    },
}


def outs(directory: Path, approach: str) -> list[Path]:
    return [directory / "history" / f"{approach}.csv", directory / "models" / f"{approach}.safetensors"]


def results(directory: Path, approach: str) -> list[bytes]:
    return [out.read_bytes() for out in outs(directory, approach)]


def state(directory: Path, approach: str) -> Path:
    return directory / ".resume" / approach


def start(directory: Path, approach: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stages", "train", approach]
    return subprocess.Popen(
        command, cwd=directory, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def undisturbed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which fine-tuning takes many epochs, after a run without any disturbance."""
    directory = tmp_path_factory.mktemp("resume") / "project"
    shutil.copytree(project, directory)
    params = merge(read_yaml(directory / "params.yaml"), CHANGES)
    (directory / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    command = [sys.executable, "-m", "dvc", "repro", "features@avgpool", "sizes"]  # of as many epochs
    subprocess.run(command, cwd=directory, env=environment(), check=True, stdout=subprocess.DEVNULL)
    for approach in APPROACHES:
        process = start(directory, approach)
        output = process.communicate()[0]
        assert process.returncode == 0, output
        assert not state(directory, approach).exists()
    return directory


@pytest.fixture
def fresh(undisturbed: Path, tmp_path: Path) -> Path:
    """The same, before any training."""
    shutil.copytree(undisturbed, tmp_path / "fresh")
    for folder in ("models", "history"):
        shutil.rmtree(tmp_path / "fresh" / folder)
    return tmp_path / "fresh"


def interrupt(directory: Path, approach: str, epochs: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Start training and stop it after its ``epochs``-th epoch."""
    process = start(directory, approach)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"epoch {epochs:2}/"):
            process.send_signal(how)
            break
    process.communicate()
    assert process.returncode != 0
    assert state(directory, approach).exists()
    assert not any(out.exists() for out in outs(directory, approach))


@pytest.mark.parametrize(
    ("approach", "how"),
    [
        ("feature_extraction", signal.SIGKILL),
        ("feature_extraction", signal.SIGTERM),
        ("fine_tuning", signal.SIGKILL),
        ("own_recipe", signal.SIGKILL),
    ],
)
def test_resumed_training_ends_in_the_same_bytes(
    undisturbed: Path, fresh: Path, run: Run, approach: str, how: signal.Signals
) -> None:
    live, curve = fresh / "live" / f"{approach}.csv", (undisturbed / "history" / f"{approach}.csv").read_text()
    interrupt(fresh, approach, 5, how)
    assert live.read_text().count("\n") > 5
    assert curve.startswith(live.read_text())
    result = run(fresh, "stages", "train", approach)
    assert f"resumed from .resume/{approach}" in result.stdout
    assert results(fresh, approach) == results(undisturbed, approach)
    assert live.read_text() == curve  # one curve
    assert not state(fresh, approach).exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_dvc_repro_goes_on_from_the_last_finished_epoch(
    undisturbed: Path, fresh: Path, run: Run, how: signal.Signals
) -> None:
    """DVC and the stage are stopped together, as by Ctrl-C or a power cut; `dvc repro` deletes outs, not the state."""
    approach = "feature_extraction"
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", f"train@{approach}"],
        cwd=fresh,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch  5/"):
            os.killpg(process.pid, how)
            break
    process.communicate()
    assert process.returncode != 0
    assert state(fresh, approach).exists()
    result = run(fresh, "dvc", "repro", f"train@{approach}")
    assert result.returncode == 0, result.stdout
    assert f"resumed from .resume/{approach}" in result.stdout
    assert results(fresh, approach) == results(undisturbed, approach)
    assert not state(fresh, approach).exists()


@pytest.mark.slow
def test_killed_at_random_moments_again_and_again(undisturbed: Path, fresh: Path) -> None:
    """Not only between epochs: while reading, in the middle of a step, while the state or the outs are written."""
    approach, chance, kills = "feature_extraction", random.Random(0), 0
    while True:
        process = start(fresh, approach)
        assert process.stdout is not None
        process.stdout.readline()  # torch is loaded, training is about to begin
        try:
            # Kills lie ever further apart, so that the training comes to an end on any machine.
            process.communicate(timeout=chance.uniform(0, 0.4 + 0.3 * kills))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert process.returncode == 0
    assert kills >= 3
    assert results(fresh, approach) == results(undisturbed, approach)


def test_features_that_are_killed_go_on_and_end_in_the_same_bytes(project: Path, copy: Path, run: Run) -> None:
    files = [copy / "data" / "layer3" / f"{split}.npy" for split in ("train", "val", "test")]
    shutil.rmtree(copy / "data" / "layer3")
    command = [sys.executable, "-m", "stages", "features", "layer3"]
    process = subprocess.Popen(command, cwd=copy, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("layer3 of train: 32 views")
    process.kill()
    process.communicate()
    assert not any(file.exists() for file in files)
    result = run(copy, "stages", "features", "layer3")
    assert "resumed from .resume/layer3.train" in result.stdout
    assert [file.read_bytes() for file in files] == [(project / file.relative_to(copy)).read_bytes() for file in files]
    assert {file.suffix for file in (copy / ".resume").iterdir()} == {".finished", ".lock"}


def stored(folder: Path, until: int) -> list[int]:
    """Store 7 blocks of rows, interrupted before the block ``until``; the rows that were asked for."""
    asked: list[int] = []

    def blocks(first: int) -> Iterator[np.ndarray]:
        for row in range(first, 28, 4):
            if row == 4 * until:
                raise KeyboardInterrupt
            asked.append(row)
            yield np.arange(row * 3, row * 3 + 12, dtype=np.float32).reshape(4, 3)

    with suppress(KeyboardInterrupt):
        store(folder / "rows.npy", blocks, 28, "rows", Checkpoint(folder / "rows", "0" * 64))
    return asked


def test_an_array_goes_on_behind_what_is_there_unless_that_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.base.checkpoint.INTERVAL", 0)
    whole, file = np.arange(84, dtype=np.float32).reshape(28, 3), tmp_path / "rows.npy"
    assert stored(tmp_path, 5) == [0, 4, 8, 12, 16]
    assert stored(tmp_path, 6) == [20]
    assert stored(tmp_path, 7) == [24]
    assert np.array_equal(np.load(file), whole)
    assert stored(tmp_path, 7) == []  # finished, and finished it stays
    for place in range(0, 128 + 84 * 4, 7):  # in the header, and in the rows
        file.unlink()
        (tmp_path / "rows").unlink()
        stored(tmp_path, 5)
        content = bytearray(file.read_bytes())
        content[place % len(content)] ^= 1
        file.write_bytes(content)
        stored(tmp_path, 7)
        assert np.array_equal(np.load(file), whole)
        assert np.load(file).dtype == np.float32
    file.write_bytes(file.read_bytes()[:150])
    assert stored(tmp_path, 7) == [0, 4, 8, 12, 16, 20, 24]
    file.unlink()
    assert stored(tmp_path, 7) == [0, 4, 8, 12, 16, 20, 24]
    store(file, lambda first: iter([whole[first:8]]), 8, "rows", Checkpoint(tmp_path / "rows", "0" * 64))
    assert np.array_equal(np.load(file), whole[:8])  # fewer than an earlier run made


def test_more_epochs_cost_only_the_new_ones(copy: Path, run: Run) -> None:
    """What DVC's cache holds of fewer epochs is the beginning, unless anything else has changed, or it is damaged."""
    assert not (copy / "data/layer3/train.npy").is_symlink()
    rows = np.load(copy / "data/layer3/train.npy")
    images = len(rows) // 2  # epochs

    def features(epochs: int, seed: int = 0) -> str:
        for key, value in (("epochs", epochs), ("seed", seed)):
            text = (copy / "params.yaml").read_text()
            (copy / "params.yaml").write_text(re.sub(rf"(train:\n(?:  .*\n)*?  {key}:) \d+", rf"\1 {value}", text))
        result = run(copy, "dvc", "repro", "--single-item", "features@layer3")
        assert result.returncode == 0, result.stdout
        return result.stdout

    assert features(3).count("resumed from .resume/layer3.") == 3
    longer = np.load(copy / "data/layer3/train.npy")
    assert len(longer) == 3 * images
    assert np.array_equal(longer[: 2 * images], rows)
    shutil.rmtree(copy / ".resume")
    expected = hex_digest(copy / "data/layer3/train.npy", "md5")
    assert run(copy, "stages", "features", "layer3").returncode == 0
    assert hex_digest(copy / "data/layer3/train.npy", "md5") == expected

    assert "resumed" not in features(4, seed=1)
    assert "resumed" in features(5, seed=1)
    record = json.loads((copy / "environment/features-layer3.json").read_text())
    md5 = record["outs"]["data/layer3/train.npy"]
    flip(copy / ".dvc/cache/files/md5" / md5[:2] / md5[2:])
    assert "layer3.train.npy: damaged, gone or too long, not resumed" in features(6, seed=1)
    assert len(np.load(copy / "data/layer3/train.npy")) == 6 * images


@pytest.mark.parametrize("place", [0, 100, 5000])
def test_one_flipped_bit_in_fingerprint_checksum_or_content_is_noticed(tmp_path: Path, place: int) -> None:
    checkpoint = Checkpoint(tmp_path / "state", "0" * 64)
    checkpoint.save({"trained": {"fc.weight": torch.rand(9_000)}, "epochs": []})
    assert checkpoint.load() is not None
    content = bytearray(checkpoint.path.read_bytes())
    content[place] ^= 1
    checkpoint.path.write_bytes(content)
    assert checkpoint.load() is None


def test_a_damaged_state_is_refused(undisturbed: Path, fresh: Path, run: Run) -> None:
    approach = "feature_extraction"
    interrupt(fresh, approach, 3)
    content = bytearray(state(fresh, approach).read_bytes())
    content[5000] ^= 1
    state(fresh, approach).write_bytes(content)
    result = run(fresh, "stages", "train", approach)
    assert "not resumed; starting over" in result.stdout
    assert results(fresh, approach) == results(undisturbed, approach)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("params.yaml", b"flip: 0.5", b"flip: 0.25"),
        ("pipeline/training/fit.py", b"import numpy as np", b"import numpy as np  # changed"),
        ("data/avgpool/train.npy", None, None),
    ],
)
def test_a_state_of_another_training_is_refused(
    fresh: Path, run: Run, path: str, old: bytes | None, new: bytes | None
) -> None:
    interrupt(fresh, "feature_extraction", 3)
    content = (fresh / path).read_bytes()
    if old is None or new is None:
        changed = content[:-1] + bytes([content[-1] ^ 1])
    else:
        assert old in content
        changed = content.replace(old, new)
    (fresh / path).write_bytes(changed)
    result = run(fresh, "stages", "train", "feature_extraction")
    assert "belongs to other params, data, weights, code or environment, not resumed; starting over" in result.stdout
    assert result.returncode == 0
