"""The cache changes no byte of an out and fails no run, whatever state it is in.

Each test runs the stages from explore to report in a folder of its own, with the raw data of the
finished run and its cache, and compares all outs with those of the finished run.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.base.cache import GIGABYTE, read_header
from pipeline.params import Params, load_params
from tests.conftest import Run
from tests.faults import digests, outs
from tests.small import flip_bit
from tests.stages.in_process import run_stages

FULL = 0.0001  # GB, a fifth of what the run needs


def entries(cache: Path) -> set[Path]:
    return {path for path in cache.rglob("*") if path.is_file()}


def changed(params: Params, section: str, **values: Any) -> Params:
    new = getattr(params, section).model_copy(update=values)
    return params.model_copy(update={section: new})


@pytest.fixture
def folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data and backbone of the finished run, a copy of its cache; the current folder."""
    for name in ("data", "tests"):
        (tmp_path / name).symlink_to(project / name)
    shutil.copytree(project / ".cache", tmp_path / ".cache")
    (tmp_path / "report").mkdir()
    shutil.copy(project / "report" / "left_out.csv", tmp_path / "report")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def params(project: Path) -> Params:
    return load_params(project / "params.yaml")


def as_it_is(cache: Path) -> None:
    """Every entry is there."""


def half_there(cache: Path) -> None:
    for path in sorted(entries(cache))[::2]:
        path.unlink()


def damaged(cache: Path) -> None:
    """One bit of every entry is another: of its header, or of the array."""
    for number, path in enumerate(sorted(entries(cache))):
        flip_bit(path, -1 - number if number % 3 else 10)


def not_writable(cache: Path) -> None:
    """A file where the folder should be, which stops root too."""
    shutil.rmtree(cache)
    cache.touch()


State = Callable[[Path], object]


@pytest.mark.parametrize(
    ("state", "limit", "note"),
    [
        pytest.param(damaged, 1.0, "damaged", id="damaged"),
        pytest.param(shutil.rmtree, FULL, "too little", id="full"),
        pytest.param(shutil.rmtree, 1.0, "", id="empty", marks=pytest.mark.slow),
        pytest.param(half_there, 1.0, "", id="half there", marks=pytest.mark.slow),
        pytest.param(not_writable, 1.0, "slower", id="not writable", marks=pytest.mark.slow),
        pytest.param(as_it_is, 0.0, "", id="off", marks=pytest.mark.slow),
    ],
)
def test_all_outs_are_the_same(
    project: Path,
    folder: Path,
    params: Params,
    capfd: pytest.CaptureFixture[str],
    state: State,
    limit: float,
    note: str,
) -> None:
    cache = folder / ".cache"
    right = {path: path.read_bytes() for path in entries(cache)}
    state(cache)
    run_stages(changed(params, "runtime", cache=limit))
    made = [out for out in outs(project) if not out.startswith("data/")]
    assert digests(folder, made) == digests(project, made)
    notes = [line for line in capfd.readouterr().err.splitlines() if line.startswith("note: ")]
    assert all(note in line for line in notes)
    assert len(notes) == (len(right) if state == damaged else bool(note))
    stored = {path: path.read_bytes() for path in entries(cache)}
    assert stored.items() <= right.items()
    if limit == FULL:
        assert 0 < sum(map(len, stored.values())) <= limit * GIGABYTE


def test_more_epochs_compute_the_new_ones_and_another_rate_computes_nothing(
    folder: Path, params: Params
) -> None:
    before = entries(folder / ".cache")
    rates = {"conv5": 0.5, "fc": 0.5}
    approach = params.approaches["fine_tuning"].model_copy(update={"learning_rates": rates})
    approaches = params.approaches | {"fine_tuning": approach}
    run_stages(params.model_copy(update={"approaches": approaches}), ["train fine_tuning"])
    assert entries(folder / ".cache") == before

    run_stages(changed(params, "train", epochs=3), ["train fine_tuning"])
    new = entries(folder / ".cache") - before
    assert new
    assert {read_header(path)[0]["key"]["views"]["epoch"] for path in new} == {3}


def test_bf16_halves_the_entries_and_changes_no_type_of_a_weight(
    folder: Path, params: Params
) -> None:
    shutil.rmtree(folder / ".cache")
    bf16 = changed(params, "train", precision="bf16")
    model = folder / "models" / "fine_tuning.safetensors"
    run_stages(bf16, ["train fine_tuning"])
    weights = model.read_bytes()
    frozen = [read_header(path)[0] for path in (folder / ".cache" / "frozen").iterdir()]
    assert {header["dtype"] for header in frozen} == {"<u2"}
    assert not [tensor for tensor in load_file(model).values() if tensor.dtype == torch.bfloat16]
    for _ in ("from the cache", "once more, for it is off"):
        run_stages(bf16, ["train fine_tuning"])
        assert model.read_bytes() == weights
        bf16 = changed(bf16, "runtime", cache=0.0)


@pytest.mark.slow
def test_an_experiment_in_a_copy_uses_the_cache_of_the_clone(copy: Path, run: Run) -> None:
    before = entries(copy / ".cache")
    shutil.rmtree(copy / ".cache")
    setting = "approaches.fine_tuning.learning_rates.conv5=0.5"
    result = run(copy, "dvc", "exp", "run", "--temp", "-S", setting, "train@fine_tuning")
    assert result.returncode == 0, result.stdout
    assert "Running stage 'train@fine_tuning'" in result.stdout
    after = entries(copy / ".cache")
    assert after
    assert after <= before
