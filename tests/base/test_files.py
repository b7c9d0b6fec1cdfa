"""Files appear whole or not at all, and killed processes leave nothing behind for long."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.files import atomic, file_lock, scratch
from tools.commands import environment
from tools.sandbox import PROJECT

WRITER = """
import sys
from pipeline.base.files import atomic
with atomic(sys.argv[1]) as (path,):
    path.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
    with path.open("a") as file:
        file.write(" and half")
"""
LOCKER = """
import sys
from pathlib import Path
from pipeline.base.files import file_lock
with file_lock(Path(sys.argv[1]), "file"):
    print("locked", flush=True)
    sys.stdin.readline()
"""


def start(code: str, path: Path) -> "subprocess.Popen[str]":
    """Another process, which prints a line and then waits for one."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert process.stdout
    assert process.stdout.readline()
    return process


def test_two_processes_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    writer = start(WRITER, tmp_path / "file")
    with atomic(tmp_path / "file") as (path,):
        path.write_text("by us")
    assert (tmp_path / "file").read_text() == "by us"
    writer.communicate("continue\n")
    assert (tmp_path / "file").read_text() == "half and half"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_leaves_the_old_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with atomic(tmp_path / "a", tmp_path / "b") as (path, _):
            path.write_text("new")
            raise ValueError("the work fails")

    with pytest.raises(ValueError, match="the work fails"):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path: Path) -> None:
    """Python gives no name if write() fails, and that of the temporary file if open() does."""
    with pytest.raises(OSError, match="full") as error, atomic(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "full")
    assert error.value.filename == str(tmp_path / "file")
    with pytest.raises(OSError, match="full") as error, atomic(tmp_path / "file") as (path,):
        raise OSError(errno.ENOSPC, "full", str(path))
    assert error.value.filename == str(tmp_path / "file")


def test_temporary_files_of_a_killed_process_are_deleted_by_the_next(tmp_path: Path) -> None:
    writer = start(WRITER, tmp_path / "file")
    writer.kill()
    writer.communicate()
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    with scratch(tmp_path / "file") as path:
        path.write_text("unfinished")
        assert list(tmp_path.iterdir()) == [path]
    assert not list(tmp_path.iterdir())


def test_a_lock_is_waited_for_with_a_note_and_is_free_when_its_process_is_killed(
    tmp_path: Path,
) -> None:
    locker = start(LOCKER, tmp_path / "file")
    notes = []

    def note(line: str) -> None:
        notes.append(line)
        locker.kill()

    with file_lock(tmp_path / "file", "file", note):
        assert notes == ["file: waiting for another process that writes it"]
    locker.communicate()
    with file_lock(tmp_path / "file", "file", note):
        assert len(notes) == 1


POWER_CUT = """
import os, sys
from pathlib import Path
from pipeline.base import files
steps = int(sys.argv[1])
def or_power_cut(call):
    def step(*arguments):
        global steps
        if not steps:
            os._exit(1)
        steps -= 1
        return call(*arguments)
    return step
files.os.fsync = or_power_cut(os.fsync)
Path.replace = or_power_cut(Path.replace)
with files.atomic("a", "b") as paths:
    for path in paths:
        path.write_text("whole")
"""


def test_a_power_cut_at_any_step_leaves_whole_files_or_none(tmp_path: Path) -> None:
    """The steps: each file is written to the disk (fsync), then each gets its name (rename)."""
    present = []
    for step in range(5):
        command = [sys.executable, "-c", POWER_CUT, str(step)]
        variables = environment() | {"PYTHONPATH": str(PROJECT)}
        done = subprocess.run(command, cwd=tmp_path, env=variables)
        assert done.returncode == (step < 4)
        files = [tmp_path / name for name in ("a", "b") if (tmp_path / name).exists()]
        present.append(len(files))
        for file in files:
            assert file.read_text() == "whole"
            file.unlink()
    assert present == [0, 0, 0, 1, 2]  # none is renamed before all are on the disk
    assert not list(tmp_path.iterdir())  # the next run deletes what the others left
