"""A disk that fills up, or may not be written: every stage ends in one line, and leaves no half of a file."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.base.errors import for_people
from pipeline.params import read_yaml
from stages.__main__ import main
from tests.conftest import Run
from tests.faults import results
from tools.sandbox import update

PAGE = 4096  # bytes: a disk in memory gives space in these
FULL, READ_ONLY = "No space left on device; free some space", "Read-only file system; let yourself read and write there"


def mount(folder: Path, options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small disk is not permitted here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk in memory, with room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=1g")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave(disk: Path, free: int) -> None:
    """Make the disk as small as leaves so many bytes free."""
    mount(disk, f"remount,rw,size={shutil.disk_usage(disk).used + free}")


def ending(work: Callable[[], object]) -> str:
    """What a program that does this work says at its end."""
    try:
        with for_people():
            work()
    except SystemExit as end:
        return str(end.code)
    return ""


@pytest.mark.slow
def test_every_stage_ends_in_one_line_on_a_full_or_read_only_disk(
    project: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process, as `python -m stages` would do, so that torch is loaded once."""
    shutil.copytree(project, disk / "project", ignore=shutil.ignore_patterns(".git", "cache"))
    monkeypatch.chdir(disk / "project")
    for name, stage in read_yaml("dvc.lock")["stages"].items():
        outs = [file for out in stage["outs"] for file in (Path(out["path"]), *Path(out["path"]).rglob("*"))]
        right = {file: file.read_bytes() for file in outs if file.is_file()}
        record = Path("environment", f"{name.replace('@', '-')}.json")
        size = sum(len(content) for content in right.values())
        monkeypatch.setattr("sys.argv", ["stages", *stage["cmd"].split()[3:]])
        # None at all; half of what is needed; all but the last page, or all but what the record of the run needs.
        for free in (0, size // 2 // PAGE * PAGE, size // PAGE * PAGE, None):
            for file in (*right, record):
                file.unlink(missing_ok=True)  # as DVC does
            leave(disk, free or 0)
            if free is None:
                mount(disk, "remount,ro")
            message = ending(main)
            leave(disk, 1 << 28)
            if message or not free:
                assert message.startswith("error: "), (name, free, message)
                assert f": {READ_ONLY if free is None else FULL}, " in message, (name, free, message)
                assert message.count("\n") == 0
            assert not list(Path().rglob("*.part")), (name, free, message)
            for file, content in right.items():
                assert not file.exists() or file.read_bytes() == content, (name, free, file)
        for file, content in right.items():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_dvc_repro_on_a_disk_that_is_full_again_and_again_ends_in_the_same_bytes(
    project: Path, disk: Path, run: Run
) -> None:
    """From nothing; whenever the disk is full there are 20 MB more to it. DVC's cache needs space too."""
    copy, failures = disk / "copy", 0
    update(copy, {}, project)
    leave(disk, 1 << 20)
    while (result := run(copy, "dvc", "repro")).returncode:
        failures += 1
        assert "Traceback" not in result.stdout, result.stdout
        assert re.search("ERROR: .*(exited with 1|No space left on device)", result.stdout), result.stdout
        leave(disk, failures * (20 << 20))
    assert failures > 2
    assert results(copy) == results(project)


@pytest.mark.parametrize("grab", [lambda: np.empty(1 << 45), lambda: torch.empty(1 << 45)], ids=["numpy", "torch"])
def test_memory_that_is_not_there_is_one_line(grab: Callable[[], object]) -> None:
    assert ending(grab) == "error: out of memory; free some memory, then run it again: what is finished stays"
