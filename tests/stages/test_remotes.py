"""A team's results travel by git and a DVC remote. A folder stands for S3, SSH and others, which DVC treats alike."""

from pathlib import Path

import pytest

from tests.conftest import Run
from tests.faults import results
from tests.test_faults import flip
from tools.sandbox import commit, output


@pytest.fixture
def shared(copy: Path, run: Run, tmp_path: Path) -> Path:
    """A finished run that was pushed, with its run-cache, to the folder ``remote``; its git repository."""
    assert run(copy, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "remote")).returncode == 0
    assert run(copy, "dvc", "config", "remote.storage.verify", "true").returncode == 0
    commit(copy, "a remote")
    result = run(copy, "dvc", "push", "--run-cache")
    assert result.returncode == 0, result.stdout
    return copy


def test_a_clone_gets_everything_and_runs_nothing(shared: Path, run: Run, tmp_path: Path) -> None:
    output(tmp_path, "git", "clone", "--quiet", str(shared), "clone")
    result = run(tmp_path / "clone", "dvc", "pull", "--run-cache")
    assert result.returncode == 0, result.stdout
    assert results(tmp_path / "clone") == results(shared)
    result = run(tmp_path / "clone", "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert "Running stage" not in result.stdout


@pytest.mark.slow
def test_what_the_remote_damaged_or_lost_is_named_and_made_again(shared: Path, run: Run, tmp_path: Path) -> None:
    """Without the run-cache, which would ask for them anew."""
    lock = (shared / "dvc.lock").read_text()
    stored = {}
    for name in ("report/index.html", "models/fine_tuning.safetensors"):
        md5 = lock.split(f"- path: {name}\n")[-1].split("md5: ")[1].split()[0]
        stored[name] = tmp_path / "remote" / "files" / "md5" / md5[:2] / md5[2:]
    flip(stored["report/index.html"])
    stored["models/fine_tuning.safetensors"].unlink()
    output(tmp_path, "git", "clone", "--quiet", str(shared), "clone")
    result = run(tmp_path / "clone", "dvc", "pull")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout
    for name in stored:
        assert name in result.stdout
    result = run(tmp_path / "clone", "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert results(tmp_path / "clone") == results(shared)
