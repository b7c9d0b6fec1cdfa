"""What continuous integration asks of a commit, in a fresh clone without data, cache or secrets."""

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Run
from tools.sandbox import commit

# The two runs of the demo have tests of their own (test_verify.py); here is only what follows from their outcome.
VERIFY = "import sys\nprint('two runs')\nsys.exit({code})\n"


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(project), str(tmp_path / "clone")], check=True)
    for key, value in {"user.name": "test", "user.email": "test@localhost"}.items():
        subprocess.run(["git", "config", key, value], cwd=tmp_path / "clone", check=True)
    (tmp_path / "clone" / "tools" / "verify.py").write_text(VERIFY.format(code=0))
    return tmp_path / "clone"


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_commit_with_its_results_passes_and_is_compared_with_the_base(
    clone: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    edit(clone / "params.yaml", "dpi: 40", "dpi: 50")
    commit(clone, "base")
    edit(clone / "params.yaml", "dpi: 50", "dpi: 40")
    commit(clone, "head")
    result = run(clone, "tools.check", "HEAD~1")
    assert result.returncode == 0, result.stdout
    assert "- dvc.lock: fits this code and these params" in result.stdout
    assert "- demo: two runs, the same bytes" in result.stdout
    summary = (tmp_path / "summary.md").read_text()
    assert "## Params against HEAD~1" in summary
    assert "| params.yaml | plots.dpi | 50" in summary
    assert "## Metrics against HEAD~1\n\nno difference" in summary


def test_metrics_that_moved_are_a_table(clone: Path, run: Run) -> None:
    metrics = clone / "metrics" / "fine_tuning.json"
    original = metrics.read_text()
    edit(metrics, '"n_test": 12', '"n_test": 13')
    commit(clone, "base")
    metrics.write_text(original)
    commit(clone, "head")
    result = run(clone, "tools.check", "HEAD~1")
    assert result.returncode == 0, result.stdout
    row = next(line for line in result.stdout.splitlines() if "n_test" in line)
    assert [cell.strip() for cell in row.split("|")[1:6]] == ["metrics/fine_tuning.json", "n_test", "13", "12", "-1"]


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        ("params.yaml", "layer4: 0.0001", "layer4: 0.0002", "approaches.fine_tuning modified"),
        ("pipeline/training/fit.py", "import math", "import math  # changed", "pipeline/training/fit.py modified"),
        ("dvc.yaml", "stages compare\n", "stages compare --fast\n", "compare: changed command"),
        ("metrics/fine_tuning.json", '"n_test": 12', '"n_test": 13', "metrics/fine_tuning.json modified"),
    ],
)
def test_a_lock_that_does_not_fit_fails_and_says_where(
    clone: Path, run: Run, path: str, old: str, new: str, message: str
) -> None:
    edit(clone / path, old, new)
    commit(clone, "changed, not run again")
    result = run(clone, "tools.check")
    assert result.returncode == 1
    assert "does not fit this code and these params" in result.stdout
    assert message in result.stdout


def test_a_demo_that_differs_fails(clone: Path, run: Run) -> None:
    (clone / "tools" / "verify.py").write_text(VERIFY.format(code=1))
    result = run(clone, "tools.check")
    assert result.returncode == 1
    assert "did not make the same bytes" in result.stdout


def test_a_first_commit_without_results_or_base_passes(clone: Path, run: Run) -> None:
    (clone / "dvc.lock").unlink()
    subprocess.run(["git", "rm", "-rq", "--cached", "dvc.lock", "metrics"], cwd=clone, check=True)
    commit(clone, "no results yet")
    result = run(clone, "tools.check", "0" * 40)
    assert result.returncode == 0, result.stdout
    assert "- dvc.lock: none is committed" in result.stdout
    assert f"there is no revision {'0' * 40}" in result.stdout


def test_another_environment_and_records_of_another_run_are_named(copy: Path, run: Run) -> None:
    fits = "params.yaml: every key is known and every value allowed\n"
    assert run(copy, "tools.check", "--params").stdout == fits
    edit(copy / "environment" / "train-fine_tuning.json", '"torch": "', '"torch": "1.')
    edit(copy / "params.yaml", "seed: 0", "seed: 5")
    assert run(copy, "dvc", "repro", "train@feature_extraction").returncode == 0
    edit(copy / "params.yaml", "seed: 5", "seed: 0")
    result = run(copy, "dvc", "repro", "train@feature_extraction")
    assert "Running stage" not in result.stdout  # the outs come from DVC's cache, no record with them
    result = run(copy, "tools.check", "--params")
    assert result.returncode == 0
    _, environment, records = result.stdout.splitlines()
    version = importlib.metadata.version("torch")
    assert environment == f"made with torch 1.{version} (here {version}): `dvc repro --force` makes the results here"
    assert records.endswith("of what dvc.lock has of features@layer3, features@avgpool, train@feature_extraction")
