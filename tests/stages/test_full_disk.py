"""A disk that fills up, or may not be written: every stage ends in one line, no file is cut."""

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
MEGABYTE = 1 << 20
FULL = "No space left on device; free some space"
READ_ONLY = "Read-only file system; get permission to read and write there"


def mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
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
    ignore = shutil.ignore_patterns(".git", ".dvc", ".cache")
    shutil.copytree(project, disk / "project", ignore=ignore)
    monkeypatch.chdir(disk / "project")
    for name, stage in read_yaml("dvc.lock")["stages"].items():
        roots = [Path(out["path"]) for out in stage["outs"]]
        files = [file for root in roots for file in (root, *root.rglob("*")) if file.is_file()]
        right = {file: file.read_bytes() for file in files}
        size = sum(map(len, right.values()))
        record = Path("environment", f"{name.replace('@', '-')}.json")
        monkeypatch.setattr("sys.argv", ["stages", *stage["cmd"].split()[3:]])
        # None at all; half of what is needed; all but the last page; and one that is read-only.
        for free in (0, size // 2 // PAGE * PAGE, size // PAGE * PAGE, READ_ONLY):
            for file in (*right, record):
                file.unlink(missing_ok=True)  # as DVC does
            leave(disk, free if isinstance(free, int) else 0)
            if free == READ_ONLY:
                mount(disk, "remount,ro")
            message = ending(main)
            leave(disk, 256 * MEGABYTE)
            if message or free in (0, READ_ONLY):
                assert message.startswith("error: "), (name, free, message)
                reason = READ_ONLY if free == READ_ONLY else FULL
                assert f": {reason}, " in message, (name, free, message)
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
    """From nothing; whenever the disk is full, it becomes larger. DVC's cache needs space too."""
    copy = disk / "copy"
    update(copy, {}, project)
    leave(disk, MEGABYTE)
    failures = 0
    result = run(copy, "dvc", "repro")
    while result.returncode:
        failures += 1
        assert "Traceback" not in result.stdout, result.stdout
        line = "ERROR: .*(exited with 1|No space left on device)"
        assert re.search(line, result.stdout), result.stdout
        leave(disk, failures * 4 * MEGABYTE)
        result = run(copy, "dvc", "repro")
    assert failures > 1
    assert results(copy) == results(project)


@pytest.mark.parametrize("empty", [np.empty, torch.empty], ids=["numpy", "torch"])
def test_memory_that_is_not_there_is_one_line(empty: Callable[[int], object]) -> None:
    message = "error: out of memory; free some memory, then run it again: finished stages are kept"
    assert ending(lambda: empty(1 << 45)) == message
