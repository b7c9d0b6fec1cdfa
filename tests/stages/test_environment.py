"""A stage finds its packages where nobody has activated the environment."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.sandbox import PROJECT


def stage_without_packages(folder: Path) -> str:
    """What the stage "bogus" says if DVC starts it by a Python that has no packages."""
    command = [sys.executable, "-S", "-m", "stages", "bogus"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pipeline", "stages"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    return tmp_path


def test_it_goes_on_in_the_project_s_environment(project: Path) -> None:
    environment = project / ".venv" / "bin"
    environment.mkdir(parents=True)
    program = environment / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    assert "error: no stage 'bogus'; there are download, " in stage_without_packages(project)
    # An experiment runs in a copy.
    copy = project / ".dvc" / "tmp" / "exps" / "copy"
    for name in ("pipeline", "stages"):
        shutil.copytree(PROJECT / name, copy / name)
    assert "error: no stage 'bogus'; there are download, " in stage_without_packages(copy)


def test_without_one_it_says_what_to_do(project: Path) -> None:
    assert stage_without_packages(project) == (
        f"error: {sys.executable} has not the packages of requirements.lock; activate an "
        "environment that has them: . .venv/bin/activate\n"
    )
