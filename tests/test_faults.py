"""Faults around DVC: what it believes without reading, and what it loses. README.md has a table."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.faults import Attack, results
from tests.small import flip_bit
from tools.sandbox import update


def flip_unseen(path: Path) -> None:
    """Another bit, as a failing disk gives it: times, size and rights are as before."""
    before = path.stat()
    path.chmod(0o644)
    flip_bit(path, -1)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cached(directory: Path) -> list[Path]:
    return [path for path in (directory / ".dvc/cache").rglob("*") if path.is_file()]


def test_the_doctor_finds_what_dvc_believes(copy: Path, run: Run) -> None:
    """A flipped bit in every cached file, in every record of a run, and in outs of every kind."""
    right = results(copy)
    assert run(copy, "dvc", "status", "--quiet").returncode == 0  # DVC learns what the files are
    result = run(copy, "tools.doctor")
    assert (result.returncode, result.stdout) == (0, "cache and outs are as they should be\n")

    outs = ["data/raw", "metrics.json", "models/fine_tuning.safetensors", "report/gradcam"]
    for out in outs:
        path = copy / out
        flip_unseen(next(path.iterdir()) if path.is_dir() else path)
    assert run(copy, "dvc", "status", "--quiet").returncode == 0  # it sees nothing
    result = run(copy, "tools.doctor")
    assert result.returncode == 1
    *lines, last = result.stdout.splitlines()
    assert last == "4 damaged: `dvc repro` makes them again"
    named = {line.partition(": damaged, or edited: keep a copy")[0] for line in lines}
    assert named == set(outs)
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert "Running stage" not in result.stdout  # all came from the cache
    assert results(copy) == right

    (copy / ".dvc" / "tmp" / "rwlock").write_text("")  # as a kill can leave it
    everything = cached(copy)
    for path in everything:
        flip_unseen(path)
    result = run(copy, "tools.doctor")
    assert result.stdout.count(": damaged, deleted\n") == len(everything)
    assert ".dvc/tmp/rwlock: cut short, deleted\n" in result.stdout
    assert not cached(copy)
    assert results(copy) == right


def with_conflict(text: bytes) -> bytes:
    """As git leaves a file whose merge has a conflict."""
    half = len(text) // 2
    first = text[:half].rpartition(b"\n")[0]
    rest = text[half:].partition(b"\n")[2]
    return first + b"\n<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n" + rest


def cut(text: bytes) -> bytes:
    """DVC writes dvc.lock in place, and may be killed meanwhile."""
    return text[: len(text) // 3]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, with_conflict])
def test_a_damaged_lock_is_repaired_or_named_and_without_it_all_comes_back(
    copy: Path, run: Run, damage: Callable[[bytes], bytes]
) -> None:
    right = results(copy)
    lock = copy / "dvc.lock"
    lock.write_bytes(damage(lock.read_bytes()))
    result = run(copy, "dvc", "repro")
    assert "Traceback" not in result.stdout
    if result.returncode:
        assert "dvc.lock" in result.stdout
        lock.unlink()
        result = run(copy, "dvc", "repro")
        assert result.returncode == 0, result.stdout
    assert "Running stage" not in result.stdout  # what was finished comes from the cache
    assert results(copy) == right


def test_conflict_marks_in_params_are_named(copy: Path, run: Run) -> None:
    params = copy / "params.yaml"
    params.write_bytes(with_conflict(params.read_bytes()))
    for command in (("dvc", "repro"), ("tools.check", "--params")):
        result = run(copy, *command)
        assert result.returncode
        assert "params.yaml" in result.stdout
        assert "Traceback" not in result.stdout


@pytest.mark.slow
def test_what_half_of_the_cache_of_dvc_has_lost_is_made_again(copy: Path, run: Run) -> None:
    right = results(copy)
    for path in sorted(cached(copy))[::2]:
        path.unlink()
    folders = ("data", "evaluation", "history", "models", "per_class", "predictions", "report")
    for folder in (*folders, "unlabelled", "validation"):
        shutil.rmtree(copy / folder)
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert "Running stage" in result.stdout
    assert results(copy) == right


@pytest.mark.slow
def test_kills_of_the_whole_pipeline_lose_nothing(project: Path, tmp_path: Path) -> None:
    """The short form of `python -m tests.faults`."""
    update(tmp_path / "run", {}, project)
    attack = Attack(tmp_path / "run", random.Random(0), longest=10.0)
    attack.run(8)
    assert results(tmp_path / "run") == results(project)
    assert attack.kills.total() == 8
    assert not attack.repeated
