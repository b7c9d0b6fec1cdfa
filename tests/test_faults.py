"""Faults around DVC: what it believes without reading, what it loses, who else is there. README.md has the table."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.faults import Attack, results
from tools.sandbox import environment, update


def flip(path: Path, place: int = -1) -> None:
    """Another bit, as a failing disk gives it: times, size and rights are as before."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cached(directory: Path) -> list[Path]:
    return [path for path in (directory / ".dvc/cache").rglob("*") if path.is_file()]


def test_the_doctor_finds_what_dvc_believes(copy: Path, run: Run) -> None:
    """A flipped bit in every cached file, in every record of a run, and in outs of every kind."""
    right, lock = results(copy), (copy / "dvc.lock").read_bytes()
    assert run(copy, "dvc", "status", "--quiet").returncode == 0  # DVC learns what the copy's files are
    result = run(copy, "tools.doctor")
    assert (result.returncode, result.stdout) == (0, "cache and outs are as they should be\n")

    damaged = [
        copy / name for name in ("data/pixels/val.csv", "metrics/fine_tuning.json", "models/fine_tuning.safetensors")
    ]
    damaged.append(next((copy / "report/gradcam").iterdir()))
    for path in damaged:
        flip(path)
    assert run(copy, "dvc", "status", "--quiet").returncode == 0  # it sees nothing
    result = run(copy, "tools.doctor")
    assert result.returncode == 1
    *lines, last = result.stdout.splitlines()
    assert last == "4 damaged: `dvc repro` makes them again"
    named = {line.partition(": damaged, or edited: keep a copy")[0] for line in lines}
    assert named == {str(path if path.is_file() and path.parent.name != "gradcam" else path.parent) for path in damaged}
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert "Running stage" not in result.stdout  # all came from the cache
    assert results(copy) == right

    (copy / ".dvc" / "tmp" / "rwlock").write_text("")  # as a kill can leave it
    assert "RWLock-file" in run(copy, "dvc", "repro").stdout
    everything = cached(copy)
    for path in everything:
        flip(path)
    result = run(copy, "tools.doctor")
    assert result.stdout.count(": damaged, deleted\n") == len(everything)
    assert ".dvc/tmp/rwlock: cut short, deleted\n" in result.stdout
    assert not cached(copy)
    assert (copy / "dvc.lock").read_bytes() == lock


def marked(text: bytes) -> bytes:
    """As git leaves a file whose merge has a conflict."""
    first, rest = text[: len(text) // 2].rpartition(b"\n")[0], text[len(text) // 2 :].partition(b"\n")[2]
    return first + b"\n<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n" + rest


def flipped(text: bytes, seed: int) -> bytes:
    place = random.Random(seed).randrange(len(text))
    return text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda text: b"",
    "cut": lambda text: text[: len(text) // 3],  # DVC writes it in place
    "conflict": marked,
    **{f"bit {seed}": partial(flipped, seed=seed) for seed in range(5)},
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_lock_is_mended_or_named_and_without_it_all_comes_back(copy: Path, run: Run, damage: str) -> None:
    lock, right = copy / "dvc.lock", results(copy)
    original = lock.read_bytes()
    lock.write_bytes(DAMAGES[damage](original))
    result = run(copy, "dvc", "repro")
    assert "Traceback" not in result.stdout
    if result.returncode:
        assert "dvc.lock" in result.stdout or "ERROR: failed to reproduce" in result.stdout
        lock.unlink()
        result = run(copy, "dvc", "repro")
        assert result.returncode == 0, result.stdout
        assert "Running stage" not in result.stdout  # what was finished comes from the cache
    assert results(copy) == right
    assert lock.read_bytes() == original


def test_conflict_marks_in_params_are_named(copy: Path, run: Run) -> None:
    (copy / "params.yaml").write_bytes(marked((copy / "params.yaml").read_bytes()))
    for command in (("dvc", "repro"), ("tools.check", "--params")):
        result = run(copy, *command)
        assert result.returncode
        assert "params.yaml" in result.stdout
        assert "Traceback" not in result.stdout


def test_a_second_dvc_repro_is_told_of_the_first_which_goes_on(copy: Path, run: Run) -> None:
    right = results(copy)
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "train@fine_tuning"]
    first = subprocess.Popen(command, cwd=copy, env=environment(), stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    while not first.stdout.readline().startswith("Running stage"):
        pass
    second = run(copy, "dvc", "repro", "--force", "--single-item", "train@fine_tuning")
    first.communicate()
    assert first.returncode == 0
    assert second.returncode
    assert "ERROR: failed to reproduce 'train@fine_tuning': " in second.stdout
    assert "rwlock" in second.stdout
    assert "Traceback" not in second.stdout
    assert results(copy) == right


def test_a_clock_that_moved_backwards_hides_no_change(copy: Path, run: Run) -> None:
    future, past = time.time() + 1e6, time.time() - 1e6
    for path in copy.rglob("*"):
        if ".git" not in path.parts and ".dvc" not in path.parts and path.is_file():
            os.utime(path, (future, future))
    assert run(copy, "dvc", "status", "--quiet").returncode == 0
    changed = copy / "data" / "pixels" / "val.npy"
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(changed, (past, past))
    assert run(copy, "dvc", "status", "--quiet").returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("left", [0.0, 0.5])
def test_a_cache_that_is_gone_or_half_gone_is_made_again(copy: Path, run: Run, tmp_path: Path, left: float) -> None:
    """And on another file system, where there is one in memory."""
    right, chance = results(copy), random.Random(0)
    for path in cached(copy):
        if chance.random() >= left:
            path.unlink()
    other = Path("/dev/shm" if Path("/dev/shm").is_dir() else tmp_path) / f"cache-{os.getpid()}"
    shutil.move(copy / ".dvc" / "cache", other)
    assert run(copy, "dvc", "cache", "dir", str(other)).returncode == 0
    for folder in ("data", "history", "models", "per_class", "predictions", "report"):
        shutil.rmtree(copy / folder)
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert results(copy) == right
    shutil.rmtree(other)


@pytest.mark.slow
def test_kills_of_the_whole_pipeline_lose_nothing(project: Path, tmp_path: Path) -> None:
    """The short form of `python -m tests.faults`."""
    update(tmp_path / "run", {}, project)
    attack = Attack(tmp_path / "run", random.Random(0), longest=10.0)
    attack.run(8)
    assert results(tmp_path / "run") == results(project)
    assert attack.kills.total() == 8
    assert not attack.repeated
