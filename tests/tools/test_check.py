"""What continuous integration asks of a commit, in a fresh clone without data, cache or secrets."""

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Run, add_demo
from tools.sandbox import commit

pytestmark = pytest.mark.pipeline

# The two runs of the demo have tests of their own (test_verify.py); here is only what follows from
# their outcome.
VERIFY = "import sys\nprint('two runs')\nsys.exit({code})\n"


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(project), str(clone)], check=True)
    for key, value in {"user.name": "test", "user.email": "test@localhost"}.items():
        subprocess.run(["git", "config", key, value], cwd=clone, check=True)
    (clone / "tools" / "verify.py").write_text(VERIFY.format(code=0))
    add_demo(clone)
    return clone


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.slow
def test_a_commit_with_its_results_passes_and_is_compared_with_the_base(
    clone: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    metrics = clone / "metrics.json"
    original = metrics.read_text()
    edit(clone / "params.yaml", "dpi: 40", "dpi: 50")
    edit(clone / "demo" / "params.yaml", "dpi: 40", "dpi: 50")
    edit(metrics, '"test": {', '"test": {\n    "an_old_approach": 0.5,')
    commit(clone, "base")
    edit(clone / "params.yaml", "dpi: 50", "dpi: 40")
    edit(clone / "demo" / "params.yaml", "dpi: 50", "dpi: 40")
    metrics.write_text(original)
    commit(clone, "head")
    result = run(clone, "tools.check", "HEAD~1")
    assert result.returncode == 0, result.stdout
    assert "- dvc.lock: fits this code and these params" in result.stdout
    assert "- demo/dvc.lock: fits this code and these params" in result.stdout
    assert "- demo: two runs, the same bytes" in result.stdout
    summary = (tmp_path / "summary.md").read_text()
    assert "## Params against HEAD~1" in summary
    assert "| params.yaml | plots.dpi | 50" in summary
    assert "## Metrics against HEAD~1" in summary
    row = next(line for line in summary.splitlines() if "an_old_approach" in line)
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[1:4] == ["metrics.json", "test.an_old_approach", "0.5"]
    # Of the demo only figures were drawn again.
    again = next(line for line in summary.splitlines() if "stages that run again" in line)
    assert again == "- stages that run again: explore, explain, report"
    assert "models/fine_tuning.safetensors" not in summary
    assert "```mermaid\nxychart-beta" in summary
    for kept in ("base/index.html", "head/index.html", "plots/index.html"):
        assert (clone / "check" / kept).stat().st_size > 1000


@pytest.mark.slow
def test_a_commit_that_makes_the_demo_worse_fails(clone: Path, run: Run) -> None:
    commit(clone, "base")
    edit(clone / "demo" / "params.yaml", "fc: 1.0e-3", "fc: 1.0e-9")
    commit(clone, "hardly trained any more")
    result = run(clone, "tools.check", "HEAD~1")
    assert result.returncode == 1
    assert "- **worse by more than 2 points**: test." in result.stdout


def test_a_lock_that_does_not_fit_fails_and_says_where(clone: Path, run: Run) -> None:
    edit(clone / "params.yaml", "conv5: 0.001", "conv5: 0.002")
    edit(clone / "dvc.yaml", "stages report\n", "stages report --fast\n")
    edit(clone / "pipeline" / "training" / "fit.py", "import math", "import math  # changed")
    commit(clone, "changed, not run again")
    result = run(clone, "tools.check")
    assert result.returncode == 1
    assert "does not fit this code and these params" in result.stdout
    assert "approaches.fine_tuning modified" in result.stdout
    assert "pipeline/training modified" in result.stdout
    assert "report: changed command" in result.stdout


def test_a_demo_that_differs_fails(clone: Path, run: Run) -> None:
    (clone / "tools" / "verify.py").write_text(VERIFY.format(code=1))
    result = run(clone, "tools.check")
    assert result.returncode == 1
    assert "did not make the same bytes" in result.stdout


def test_a_first_commit_without_results_or_base_passes(clone: Path, run: Run) -> None:
    for name in ("dvc.lock", "metrics.json"):
        (clone / name).unlink()
    commit(clone, "no results yet")
    result = run(clone, "tools.check", "0" * 40)
    assert result.returncode == 0, result.stdout
    assert "- dvc.lock: none is committed" in result.stdout
    assert f"there is no revision {'0' * 40}" in result.stdout


def test_another_environment_is_named(copy: Path, run: Run) -> None:
    fits = "params.yaml: every key is known and every value allowed\n"
    assert run(copy, "tools.check", "--params").stdout == fits
    edit(copy / "environment" / "train-fine_tuning.json", '"torch": "', '"torch": "1.')
    result = run(copy, "tools.check", "--params")
    assert result.returncode == 0
    version = importlib.metadata.version("torch")
    assert result.stdout == (
        f"{fits}made with torch 1.{version} (here {version}): "
        "`dvc repro --force` makes the results here\n"
    )
