"""Faults around DVC: what it believes without reading, what it loses, who else is there. README.md has the table."""

import os
from pathlib import Path

from tests.conftest import Run
from tests.faults import results


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

    everything = cached(copy)
    for path in everything:
        flip(path)
    result = run(copy, "tools.doctor")
    assert result.stdout.count(": damaged, deleted\n") == len(everything)
    assert not cached(copy)
    assert (copy / "dvc.lock").read_bytes() == lock
