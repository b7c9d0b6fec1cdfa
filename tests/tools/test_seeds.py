"""The experiment with several seeds, as DVC experiments."""

import re
import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from tests.conftest import Run, add_demo
from tools.sandbox import commit
from tools.seeds import markdown, numbers


def state(copy: Path) -> dict[str, bytes]:
    """What a run leaves in the workspace, by path."""
    paths = [copy / "dvc.lock", *copy.glob("*/*.json"), *copy.glob("models/*")]
    return {str(path): path.read_bytes() for path in paths}


def cached(copy: Path) -> dict[str, int]:
    """The files of the cache; a file that is written again gets another number."""
    return {path.name: path.stat().st_ino for path in (copy / ".cache").glob("*/*")}


@pytest.mark.slow
@pytest.mark.pipeline
@pytest.mark.parametrize("folder", ["", "demo"])
def test_a_study_is_one_command_and_leaves_the_workspace_as_it_is(
    copy: Path, run: Run, folder: str
) -> None:
    if folder:
        demo = add_demo(copy)
        for name in (".cache", ".dvc/cache"):
            shutil.copytree(copy / name, demo / name)
        commit(copy, "a demo")
        assert run(demo, "dvc", "checkout").returncode == 0
        copy = demo
    before = state(copy)
    in_cache = cached(copy)
    result = run(copy, "tools.seeds", "0", "7")
    assert result.returncode == 0, result.stdout
    assert state(copy) == before
    assert "| 2 seeds: 0, 7 | feature extraction | fine-tuning |" in result.stdout
    assert "fine-tuning minus feature extraction, seed by seed" in result.stdout
    listed = run(copy, "dvc", "exp", "list").stdout
    assert "seed-0" in listed
    assert "seed-7" in listed
    # Both experiments used the cache of the clone: new are only the crops of the other seed, two
    # epochs at two places.
    now = cached(copy)
    assert in_cache.items() <= now.items()
    assert len(now) == len(in_cache) + 4
    # A second time nothing is computed again, and the same comes out.
    again = run(copy, "tools.seeds", "7", "0")
    assert not re.findall("Running stage", again.stdout)
    assert "| 2 seeds: 7, 0 | feature extraction" in again.stdout


@pytest.mark.parametrize("text", ["0", "1 1", "one two"])
def test_seeds_that_make_no_study_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=f'^SEEDS="{text}": name two or more different numbers$'):
        numbers(text, "SEEDS", least=2)


def test_table_of_known_runs() -> None:
    runs = {}
    for seed, shift in enumerate((0.0, 0.01, 0.02)):
        runs[seed] = {
            "a_b": {"val": 0.8, "test": 0.70 + shift},
            "c": {"val": 0.9, "test": 0.80 + 2 * shift},
        }
    text = markdown(runs)
    assert "| **test accuracy**, mean | 71.0% | 82.0% |" in text
    assert "| lowest to highest | 70.0% to 72.0% | 80.0% to 84.0% |" in text
    # By hand: t(2) is 4.303, the deviations are 1 and 2 points.
    assert "| 95 % interval of the mean | 68.5% to 73.5% | 77.0% to 87.0% |" in text
    difference = "c minus a b, seed by seed: +10.0, +11.0, +12.0; mean +11.0 points"
    assert difference in text
    assert "(95 % interval +8.5 to +13.5)" in text
    assert "interval" not in markdown({0: runs[0], 1: runs[1]}).partition("The test images")[0]
