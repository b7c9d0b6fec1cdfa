"""The Makefile: an environment that belongs to another project is left alone."""

import subprocess
from pathlib import Path

from tools.sandbox import PROJECT


def test_an_environment_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "bin").write_text("")
    link = tmp_path / "link"
    link.symlink_to(other)
    command = ["make", f"VENV={link}", f"{link}/ready"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"error: {link} is a link, and would be emptied where it leads to" in done.stdout
    assert (other / "bin").exists()
