"""The folder to publish: whoever gets it can use the model without this project."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.data.archive import Archive
from pipeline.data.raw import ARCHIVE, read_classes, read_index
from pipeline.params import Params, read_yaml
from tests.stages.in_process import run_stages

READS = ("data", "evaluation", "models", "per_class", "predictions", "report", "tests")


@pytest.fixture(scope="module")
def folder(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage makes of the finished run's fine_tuning."""
    place = tmp_path_factory.mktemp("export")
    for name in READS:
        (place / name).symlink_to(project / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        params = Params.model_validate(read_yaml(project / "params.yaml"))
        run_stages(params, ["export fine_tuning"])
    return place / "exported" / "fine_tuning"


def test_it_has_weights_labels_card_and_examples(project: Path, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "labels.json",
        "model.onnx",
        "model.safetensors",
        "predict_onnx.py",
        "predict_torchvision.py",
    ]
    weights = project / "models" / "fine_tuning.safetensors"
    assert (folder / "model.safetensors").read_bytes() == weights.read_bytes()
    labels = json.loads((folder / "labels.json").read_text())
    assert labels == read_classes(project / "data" / "raw")


def test_its_card_has_the_figures_of_the_run(project: Path, folder: Path) -> None:
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    evaluation = json.loads((project / "evaluation" / "fine_tuning.json").read_text())
    (result,) = yaml.safe_load(head)["model-index"][0]["results"]
    assert result["dataset"]["name"] == "Drawn flowers"
    assert result["metrics"][0] == {"type": "accuracy", "value": evaluation["test"]["accuracy"]}
    assert evaluation["weights_sha256"] in text
    assert "Licence: apache-2.0" in text


@pytest.mark.parametrize("kind", ["onnx", "torchvision"])
def test_its_examples_predict_as_the_evaluation_does(
    project: Path, folder: Path, tmp_path: Path, kind: str
) -> None:
    index = read_index(project / "data" / "raw")
    first = index[index["split"] == "test"].iloc[0]
    with Archive(project / "data" / "raw" / ARCHIVE, [first["member"]]) as archive:
        (tmp_path / "photo.jpg").write_bytes(archive.read(first["member"]))
    model = "model.onnx" if kind == "onnx" else "model.safetensors"
    done = subprocess.run(
        [sys.executable, f"predict_{kind}.py", model, str(tmp_path / "photo.jpg")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    table = pd.read_csv(project / "predictions" / "fine_tuning.csv").set_index("id")
    row = table.loc[first["id"]]
    classes = json.loads((folder / "labels.json").read_text())
    lines = [line for line in done.stdout.splitlines() if line[0].isdecimal()]
    probability, name = lines[0].split(" ", 1)
    assert name == classes[int(row["prediction"])]
    assert float(probability) == pytest.approx(row["confidence"], abs=1e-3)
