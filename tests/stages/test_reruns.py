"""An edit reruns what it concerns, no more: one file or key is changed, and DVC says what runs.

Stages behind those named run only if the files that they read come out differently.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from pipeline.params import read_yaml
from tools.sandbox import PROJECT

TRAIN = {"train@feature_extraction", "train@fine_tuning"}
EVALUATE = {"evaluate@feature_extraction", "evaluate@fine_tuning"}
NETWORK = {"explore", *TRAIN, *EVALUATE, "explain"}  # stages that compute with a network

FILES: dict[str, set[str]] = {
    "pipeline/params.py": set(),
    "pipeline/base/cache.py": set(),
    "pipeline/base/files.py": set(),
    "pipeline/base/launch.py": set(),
    "stages/__main__.py": set(),
    "stages/_environment.py": set(),
    "stages/_removed.py": set(),
    "tools/verify.py": set(),
    "pipeline/base/environment.py": {"report"},  # the page prints it
    "stages/_inputs.py": NETWORK,
    "stages/train.py": TRAIN,
    "pipeline/data/archive.py": {"images", *NETWORK, "report"},
    "pipeline/data/raw.py": {"draw@images", "images", *NETWORK, "report"},
    "pipeline/data/images.py": {"images", *NETWORK, "report"},
    "pipeline/data/views.py": {*NETWORK, "report"},
    "pipeline/sources/download.py": {"images"},
    "pipeline/sources/flowers102.py": {"images"},
    "pipeline/sources/drawn.py": {"draw@images", "images"},
    "pipeline/compute/device.py": NETWORK,
    "pipeline/models/frozen.py": NETWORK,
    "pipeline/training/fit.py": NETWORK - {"explain"},
    "pipeline/training/calibration.py": NETWORK - {"explain"} | {"report"},
    "pipeline/figures/style.py": {"explore", "explain", "report"},
    "pipeline/explore/alike.py": {"explore"},
    "pipeline/explain/gradcam.py": {"explain"},
    "pipeline/export/onnx.py": set(),  # nothing is exported in this run
    "pipeline/report/page.py": {"report"},
    "pipeline/report/templates/report.css": {"report"},
}

PARAMS: dict[str, set[str]] = {
    "draw.images.seed": {"draw@images"},
    "images.split.seed": {"images"},
    "threads": {*NETWORK, "report"},
    "sure": TRAIN,
    "known": TRAIN,
    "dataset.name": {"report"},
    "dataset.license": set(),  # of model cards
    "train.resize": {"explore", *TRAIN, "report"},
    "train.fit": {"explore", *TRAIN, "report"},
    "train.flip": {*TRAIN, "report"},
    "train.seed": {*TRAIN, "report"},
    "train.epochs": {*TRAIN, "report"},
    "approaches.fine_tuning.learning_rates.fc": {"train@fine_tuning", "report"},
    "explain.typical": {"explain"},
    "plots.dpi": {"explore", "explain", "report"},
    "runtime.cache": set(),
    "runtime.workers": set(),
    "runtime.device": set(),
}


def to_run(directory: Path) -> set[str]:
    return {name.rpartition(":")[2] for name in Repo(str(directory)).status()}


@pytest.fixture
def restored(project: Path) -> Iterator[Path]:
    """The finished run, whose changed file is put back afterwards."""
    before = {name: (project / name).read_bytes() for name in [*FILES, "params.yaml"]}
    yield project
    for name, content in before.items():
        (project / name).write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_comment_in_a_file_reruns(restored: Path, name: str) -> None:
    with (restored / name).open("a") as file:
        file.write("# a comment\n")
    assert to_run(restored) == FILES[name]


@pytest.mark.parametrize("key", PARAMS)
def test_a_param_reruns(restored: Path, key: str) -> None:
    path = restored / "params.yaml"
    params = yaml.safe_load(path.read_text())
    *parents, last = key.split(".")
    section = params
    for part in parents:
        section = section[part]
    value = section[last]
    section[last] = value * 2 if isinstance(value, int | float) and value else 7
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    assert to_run(restored) == PARAMS[key]


def test_no_edit_of_code_downloads_again() -> None:
    assert "deps" not in read_yaml(PROJECT / "dvc.yaml")["stages"]["download"]["do"]
