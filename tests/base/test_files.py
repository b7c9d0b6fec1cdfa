"""Files appear whole or not at all, whoever else writes them, and a killed process leaves nothing for long."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.files import atomic, scratch
from tools.sandbox import PROJECT, environment

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


@pytest.fixture
def writer(tmp_path: Path) -> "subprocess.Popen[str]":
    """Another process, in the middle of the same file."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "file")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=PROJECT)
    assert process.stdout
    assert process.stdout.readline() == "writing\n"
    return process


def test_two_processes_write_one_file_and_neither_publishes_the_half_of_the_other(
    tmp_path: Path, writer: "subprocess.Popen[str]"
) -> None:
    with atomic(tmp_path / "file") as (path,):
        path.write_text("by us")
    assert (tmp_path / "file").read_text() == "by us"
    writer.communicate("go on\n")
    assert (tmp_path / "file").read_text() == "half and half"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, writer: "subprocess.Popen[str]") -> None:
    writer.kill()
    writer.communicate()
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    with scratch(tmp_path / "file") as path:
        path.write_text("unfinished")
        assert list(tmp_path.iterdir()) == [path]
    assert not list(tmp_path.iterdir())


POWER_CUT = """
import os, sys
from pathlib import Path
from pipeline.base import files
left = int(sys.argv[1])
def or_the_power_goes(call):
    def step(*arguments):
        global left
        if not left:
            os._exit(1)
        left -= 1
        return call(*arguments)
    return step
files.os.fsync, Path.replace = or_the_power_goes(os.fsync), or_the_power_goes(Path.replace)
with files.atomic("a", "b") as paths:
    for path in paths:
        path.write_text("whole")
"""


def test_a_power_cut_at_any_step_leaves_whole_files_or_none(tmp_path: Path) -> None:
    """Before each file is on the disk (fsync), before each of them gets its name (rename)."""
    there = []
    for step in range(5):
        command = [sys.executable, "-c", POWER_CUT, str(step)]
        done = subprocess.run(command, cwd=tmp_path, env=environment() | {"PYTHONPATH": str(PROJECT)})
        files = [tmp_path / name for name in ("a", "b") if (tmp_path / name).exists()]
        there.append(len(files))
        assert done.returncode == (step < 4)
        for file in files:
            assert file.read_text() == "whole"
            file.unlink()
    assert there == [0, 0, 0, 1, 2]  # no name before all are on the disk
    assert not list(tmp_path.iterdir())  # the next run removes what was left
