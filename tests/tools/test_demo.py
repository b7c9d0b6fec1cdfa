"""`make demo`: the whole pipeline on drawn flowers, in a DVC project that lies ready in demo/."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.params import read_yaml
from tests.conftest import Run, add_demo
from tools.demo import badge, beside
from tools.sandbox import PROJECT


@pytest.mark.slow
@pytest.mark.pipeline
def test_a_project_without_a_repository_runs_and_keeps_what_a_person_does(
    copy: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a ZIP file from GitHub; and a person goes on working in demo/."""
    demo = add_demo(copy)
    for name in (".git", ".dvc/cache", ".dvc/tmp", "data"):
        shutil.rmtree(copy / name)
    monkeypatch.setenv("GIT_DIR", str(copy / ".git"))  # as in a hook of another repository
    first = run(copy, "tools.demo")
    monkeypatch.delenv("GIT_DIR")
    assert first.returncode == 0, first.stdout
    assert "there was no git repository, which DVC needs: made one" in first.stdout
    assert "| | feature extraction | fine-tuning |" in first.stdout
    assert "Report:   demo/report/index.html" in first.stdout
    assert messages(copy) == ["the project as it came"]
    # On the same machine the committed results, byte for byte.
    assert "Last digits differ" not in first.stdout
    assert run(demo, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."

    # A remote, and an experiment that is applied to the workspace.
    assert run(demo, "dvc", "remote", "add", "--default", "mine", "../remote").returncode == 0
    changed = run(demo, "dvc", "exp", "run", "-S", "plots.dpi=41")
    assert changed.returncode == 0, changed.stdout
    config = (demo / ".dvc" / "config").read_text()
    experiments = run(demo, "dvc", "exp", "list").stdout
    again = run(copy, "tools.demo")
    assert again.returncode == 0, again.stdout
    assert "Running stage" not in again.stdout
    assert (demo / ".dvc" / "config").read_text() == config
    assert read_yaml(demo / "params.yaml")["plots"]["dpi"] == 41
    assert run(demo, "dvc", "exp", "list").stdout == experiments
    assert messages(copy) == ["the project as it came"]


def test_accuracies_stand_beside_the_committed_ones() -> None:
    committed = {"fine_tuning": 0.9, "gone": 0.5}
    assert beside({"fine_tuning": 0.9, "new": 0.1}, committed) == [
        "Test accuracy of fine-tuning: 90.0%, committed 90.0% (+0.0)"
    ]
    lines = beside({"fine_tuning": 0.885}, committed)
    assert lines[0] == "Test accuracy of fine-tuning: 88.5%, committed 90.0% (-1.5)"
    assert lines[1].startswith("Last digits differ from CPU to CPU")
    assert beside({"fine_tuning": 0.9}, {}) == []


def test_what_is_committed_fits_the_readme() -> None:
    """README quotes the demo's figures; both are of the same run."""
    metrics = json.loads((PROJECT / "demo" / "metrics.json").read_text(encoding="utf-8"))
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for name in ("feature_extraction", "fine_tuning", "random_features"):
        assert f"{100 * metrics['test'][name]:.1f} %" in readme, name
    assert (PROJECT / "demo" / "badge.svg").read_text(encoding="utf-8") == badge(metrics["test"])


def messages(directory: Path) -> list[str]:
    """Messages of the commits, the last first."""
    command = ["git", "log", "--format=%s"]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()
