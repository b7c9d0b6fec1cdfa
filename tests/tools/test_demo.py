"""The whole pipeline in a folder of its own: what `make demo` and `make strong` do."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Run


@pytest.mark.slow
@pytest.mark.pipeline
def test_a_project_without_a_repository_runs_in_a_folder_of_its_own(
    copy: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a ZIP file from GitHub; and a person goes on working in that folder."""
    for name in (".git", ".dvc/cache", ".dvc/tmp", "data"):
        shutil.rmtree(copy / name)
    (copy / "tools" / "demo.yaml").write_text("{}\n")  # the params of the copy are small already
    monkeypatch.setenv("GIT_DIR", str(copy / ".git"))  # as in a hook of another repository
    first = run(copy, "tools.demo")
    monkeypatch.delenv("GIT_DIR")
    assert first.returncode == 0, first.stdout
    assert "| | feature extraction | fine-tuning |" in first.stdout
    assert "Report:   demo/report/index.html" in first.stdout
    assert not (copy / ".git").exists()
    demo = copy / "demo"
    assert log(demo) == ["results", "the project's working tree"]

    # A remote, a model to publish, an experiment.
    assert run(demo, "dvc", "remote", "add", "--default", "mine", "../remote").returncode == 0
    exported = run(demo, "dvc", "exp", "run", "-S", "export=[feature_extraction]")
    assert exported.returncode == 0, exported.stdout
    config = (demo / ".dvc" / "config").read_text()
    experiments = run(demo, "dvc", "exp", "list").stdout
    again = run(copy, "tools.demo")
    assert again.returncode == 0, again.stdout
    assert "demo/ keeps what was changed there: '.dvc/config', 'params.yaml'" in again.stdout
    assert "demo/ has edits that are not committed, nor are the results of them" in again.stdout
    assert "Running stage" not in again.stdout
    assert (demo / ".dvc" / "config").read_text() == config
    assert (demo / "exported" / "feature_extraction" / "model.onnx").exists()
    assert run(demo, "dvc", "exp", "list").stdout == experiments
    assert log(demo) == ["results", "the project's working tree"]


def log(directory: Path) -> list[str]:
    """Messages of the commits, the last first."""
    command = ["git", "log", "--format=%s"]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()
