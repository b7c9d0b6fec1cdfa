"""The experiment over several seeds, as DVC experiments."""

import re
from pathlib import Path

import pytest

from tests.conftest import Run
from tools.seeds import markdown


@pytest.mark.slow
def test_a_study_over_seeds_is_one_command_and_leaves_the_workspace_alone(copy: Path, run: Run) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*.json")} | {copy: (copy / "dvc.lock").read_bytes()}
    result = run(copy, "tools.seeds", "0", "7")
    assert result.returncode == 0, result.stdout
    assert {path: path.read_bytes() for path in copy.rglob("*.json")} | {
        copy: (copy / "dvc.lock").read_bytes()
    } == before
    assert "| 2 seeds: 0, 7 | feature extraction | fine-tuning |" in result.stdout
    assert "fine-tuning minus feature extraction, seed by seed" in result.stdout
    listed = run(copy, "dvc", "exp", "list").stdout
    assert "seed-0" in listed
    assert "seed-7" in listed
    # Again: nothing is computed twice, and the same comes out.
    again = run(copy, "tools.seeds", "7", "0")
    assert not re.findall("Running stage '(train|features)", again.stdout)
    assert "| 2 seeds: 7, 0 | feature extraction" in again.stdout


def test_seeds_that_make_no_study_are_refused(project: Path, run: Run) -> None:
    for seeds in ("0", "1 1", "one two"):
        result = run(project, "tools.seeds", *seeds.split())
        assert result.returncode == 1
        assert result.stdout == f'error: SEEDS="{seeds}": name two or more different numbers\n'


def test_table_of_known_runs() -> None:
    runs = {
        seed: {"a_b": {"val": 0.8, "test": 0.70 + shift}, "c": {"val": 0.9, "test": 0.80 + 2 * shift}}
        for seed, shift in enumerate((0.0, 0.01, 0.02))
    }
    text = markdown(runs)
    assert "| **test accuracy**, mean | 71.0% | 82.0% |" in text
    assert "| lowest to highest | 70.0% to 72.0% | 80.0% to 84.0% |" in text
    # By hand: t(2) is 4.303, the deviations are 1 and 2 points.
    assert "| 95 % interval of the mean | 68.5% to 73.5% | 77.0% to 87.0% |" in text
    assert "c minus a b, seed by seed: +10.0, +11.0, +12.0; mean +11.0 points of test accuracy" in text
    assert "(95 % interval +8.5 to +13.5)" in text
