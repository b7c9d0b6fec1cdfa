"""The Makefile: how an environment is made, with stand-ins for the programs that make it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.sandbox import PROJECT

SYSTEM = "/usr/bin:/bin"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def make(environment: Path, python: str | Path, path: str) -> subprocess.CompletedProcess[str]:
    command = ["make", f"VENV={environment}", f"PYTHON={python}", f"{environment}/ready"]
    variables = {"PATH": path}
    return subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True)


def test_an_environment_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "bin").write_text("")
    link = tmp_path / "link"
    link.symlink_to(other)
    done = make(link, sys.executable, SYSTEM)
    assert done.returncode == 2
    assert f"error: {link} is a link, and would be emptied where it leads to" in done.stdout
    assert (other / "bin").exists()


@pytest.fixture
def without_venv(tmp_path: Path) -> Path:
    """A Python that has no venv, as Debian's."""
    text = f'[ "$2" = venv ] && exit 1\nexec {sys.executable} "$@"'
    return program(tmp_path / "python", text)


def test_uv_is_used_where_it_is_and_checks_the_hashes(tmp_path: Path, without_venv: Path) -> None:
    text = f'echo "$@" >> {tmp_path}/calls\nmkdir -p {tmp_path}/env'
    folder = program(tmp_path / "programs" / "uv", text).parent
    done = make(tmp_path / "env", without_venv, f"{folder}:{SYSTEM}")
    assert done.returncode == 0, done.stderr
    assert "once: on Linux 6.2 GB, CUDA included" in done.stdout
    _, install = (tmp_path / "calls").read_text().splitlines()
    assert install.endswith("--require-hashes --requirement requirements.lock")


@pytest.mark.skipif(
    subprocess.run(["which", "uv"], env={"PATH": SYSTEM}, capture_output=True).returncode == 0,
    reason="uv is among the system's programs",
)
def test_without_uv_and_venv_a_line_says_what_to_install(
    tmp_path: Path, without_venv: Path
) -> None:
    done = make(tmp_path / "env", without_venv, SYSTEM)
    assert done.returncode == 2
    assert f"error: {without_venv} cannot make an environment; install uv" in done.stdout
