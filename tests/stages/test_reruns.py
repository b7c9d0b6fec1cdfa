"""An edit reruns what it concerns, no more: one file or key is changed, and `dvc status` says which stages would run.

Stages behind those named run only if the files that they read come out otherwise.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

TRAIN = {"train@feature_extraction", "train@fine_tuning"}
EVALUATE = {"evaluate@feature_extraction", "evaluate@fine_tuning"}
FEATURES = {"features@layer3", "features@avgpool"}
DRAW = {"draw@images", "draw@backbone"}
NETWORK = {"explore", *FEATURES, *TRAIN, *EVALUATE, "explain"}  # stages that compute with a network

FILES: dict[str, set[str]] = {
    "pipeline/params.py": set(),
    "pipeline/training/params.py": set(),
    "pipeline/sources/params.py": set(),
    "pipeline/__init__.py": set(),
    "stages/__main__.py": set(),
    "tools/verify.py": set(),
    "pipeline/base/environment.py": {*FEATURES, *TRAIN, "report"},  # a checkpoint belongs to an environment
    "pipeline/base/checkpoint.py": {*FEATURES, *TRAIN},
    "pipeline/base/device.py": {*DRAW, *NETWORK},
    "pipeline/base/launch.py": {*DRAW, *NETWORK},
    "pipeline/base/distributed.py": {*DRAW, *NETWORK},
    "pipeline/base/progress.py": {*DRAW, "prepare", *FEATURES, *TRAIN, *EVALUATE},
    "pipeline/sources/download.py": set(),  # nothing is downloaded in this run
    "pipeline/sources/flowers102.py": set(),  # nor is this the source
    "pipeline/sources/indexed.py": {"images"},
    "pipeline/sources/drawn.py": DRAW,
    "pipeline/data/raw.py": {*DRAW, "images", "prepare", "explore", *FEATURES, *TRAIN, "explain", "report"},
    "pipeline/data/images.py": {"prepare", *NETWORK, "report"},
    "pipeline/data/views.py": NETWORK,
    "pipeline/models/features.py": NETWORK - {"explore", "explain"},
    "pipeline/models/storage.py": {*TRAIN, *EVALUATE, "explain"},
    "pipeline/models/gradcam.py": {"explain"},
    "pipeline/training/fit.py": TRAIN,
    "pipeline/training/evaluation.py": {"explore", *EVALUATE, "report"},
    "pipeline/report/analysis.py": {"explore", "report"},
    "pipeline/report/figures.py": {"explore", "compare", "report"},
    "pipeline/report/page.py": {"report"},
    "pipeline/report/style.py": {"explore", "explain", "compare", "report"},
    "pipeline/report/templates/report.css": {"report"},
    "stages/train.py": TRAIN,
}

PARAMS: dict[str, set[str]] = {
    "draw.images.seed": {"draw@images"},
    "draw.backbone.epochs": {"draw@backbone"},
    "transforms.resize": {"prepare", *FEATURES, *TRAIN, "report"},
    "transforms.flip": {*FEATURES, *TRAIN, "report"},
    "threads": {*NETWORK, "report"},
    "precision": {*NETWORK, "report"} - {"explore", "explain"},
    "train.seed": {*FEATURES, *TRAIN, "report"},
    "train.images_per_class": {*TRAIN, "report"},
    "train.batch_size": {*TRAIN, "report"},
    "approaches.fine_tuning.learning_rates.fc": {"train@fine_tuning", "compare", "report"},
    "explain.typical": {"explain"},
    "plots.dpi": {"explore", "explain", "compare"},
    "runtime.workers": set(),
    "runtime.device": set(),
}


def to_run(directory: Path) -> set[str]:
    return {name.rpartition(":")[2] for name in Repo(str(directory)).status()}


@pytest.fixture
def restored(project: Path) -> Iterator[Path]:
    """The finished run, whose changed file is put back afterwards."""
    names = [*FILES, "params.yaml"]
    before = {name: (project / name).read_bytes() for name in names}
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
    section[last] = section[last] * 2 if isinstance(section[last], int | float) and section[last] else 7
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    assert to_run(restored) == PARAMS[key]
