"""A model file alone predicts for image files what evaluation predicted for the same images."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from pipeline.base.errors import UserError
from pipeline.data.pixels import Split
from pipeline.data.raw import read_archive, read_index
from pipeline.data.views import normalise
from pipeline.models.export import check_onnx, export_onnx
from pipeline.models.networks import new_network
from pipeline.models.storage import load_model, save_model
from pipeline.params import read_yaml
from pipeline.predict import main
from tests.conftest import Run
from tools.sandbox import PROJECT, environment, merge

MEAN, STD = (read_yaml(PROJECT / "params.yaml")["transforms"][key] for key in ("mean", "std"))


def predict(directory: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In another directory than the project's, as after `pip install .`."""
    command = [sys.executable, "-m", "pipeline.predict", *map(str, arguments)]
    variables = environment() | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True)


@pytest.fixture
def images(project: Path, tmp_path: Path) -> Path:
    """The test images of the finished run as files, named by their ids."""
    index = read_index(project / "data" / "raw")
    test = index[index["split"] == "test"]
    ids = dict(zip(test["member"], test["id"], strict=True))
    (tmp_path / "photos").mkdir()
    for number, _, content in read_archive(project / "data" / "raw" / "images.tar", ids):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(content)
    return tmp_path / "photos"


@pytest.mark.parametrize("approach", ["feature_extraction", "fine_tuning"])
def test_predictions_are_those_of_the_evaluation(project: Path, images: Path, tmp_path: Path, approach: str) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes((project / "models" / f"{approach}.safetensors").read_bytes())
    done = predict(tmp_path, "model.safetensors", "photos", "--json")
    assert done.returncode == 0, done.stderr
    found = {int(Path(row["file"]).stem): row["classes"] for row in json.loads(done.stdout)}
    table = pd.read_csv(project / "predictions" / f"{approach}.csv")
    assert set(found) == set(table["id"])
    for row in table.itertuples():
        first, *others = found[int(str(row.id))]
        assert first["class"] == f"species {int(str(row.prediction)) + 1}"
        assert first["probability"] == pytest.approx(row.confidence, abs=1e-5)
        assert first["probability"] + sum(other["probability"] for other in others) == pytest.approx(1)


def test_one_unreadable_file_is_one_line_and_the_others_are_predicted(project: Path, images: Path) -> None:
    (images / "broken one.jpg").write_bytes(b"<html>")
    model = project / "models" / "fine_tuning.safetensors"
    first, *_ = sorted(images.glob("[0-9]*.jpg"))
    done = predict(images, model, first.name, "broken one.jpg", "nowhere.jpg")
    assert done.returncode == 1
    assert done.stdout.startswith(f"{first.name}\n  ")
    assert len(done.stdout.splitlines()) == 6  # a name, four classes, an empty line
    assert done.stdout.splitlines()[1].split("%  ")[1].startswith("species ")
    broken, nowhere = done.stderr.splitlines()
    assert broken.startswith("error: broken one.jpg: not a readable image")
    assert nowhere == "error: nowhere.jpg: No such file or directory"

    rows = list(csv.DictReader(io.StringIO(predict(images, model, ".", "--csv").stdout)))
    assert [list(row) for row in rows] == [["file", "class", "probability"]] * 12 * 4


def test_a_prediction_is_explained_by_a_png_in_the_current_directory(
    project: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explain(*arguments: str | Path) -> int:
        monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments), "--explain"])
        return main()

    monkeypatch.chdir(tmp_path)
    model, photo = project / "models" / "fine_tuning.safetensors", sorted(images.iterdir())[0]
    assert explain(model, photo, "nowhere.jpg", "--json") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["file"] == str(photo)
    assert printed.err.startswith(f"note: {photo.stem}_explained.png shows what speaks for the first class\nerror: ")
    assert [path.name for path in tmp_path.glob("*.*")] == [f"{photo.stem}_explained.png"]
    content = (tmp_path / f"{photo.stem}_explained.png").read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        assert image.width > image.height > 300

    photo.rename(tmp_path / photo.name)
    assert explain(model, ".", "--csv") == 0  # explanations in a folder are no images to explain
    assert (tmp_path / f"{photo.stem}_explained.png").read_bytes() == content
    assert len(list(tmp_path.glob("*_explained.png"))) == 12

    (images / photo.name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"several images are called '{photo.stem}'; --explain would write one file"):
        explain(model, photo.name, images / photo.name)

    (tmp_path / "full_explained.png").mkdir()
    (tmp_path / photo.name).rename("full.jpg")
    with pytest.raises(UserError, match=r"^full_explained\.png: "):
        explain(model, "full.jpg")

    flat = new_network("shufflenet_v2_x0_5", None, 4, 0)  # one place only in images of 32 pixels
    save_model(tmp_path / "flat", flat, load_model(model)[1] | {"network": "shufflenet_v2_x0_5"})
    with pytest.raises(UserError, match="flat: shufflenet_v2_x0_5 has no feature map that --explain could show"):
        explain("flat", "full.jpg")


def test_what_is_no_model_and_an_empty_folder_are_one_line(project: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in ([images / "1.jpg", images], [project / "models" / "fine_tuning.safetensors", "empty"]):
        done = predict(tmp_path, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1


def test_examples_without_this_project_predict_the_same(copy: Path, images: Path, tmp_path: Path, run: Run) -> None:
    """docs/predict_onnx.py from an exported file, docs/predict_torchvision.py from the model file."""
    params = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(params.replace("export: []", "export: [fine_tuning]"))
    result = run(copy, "dvc", "repro")
    assert "Running stage 'export@fine_tuning'" in result.stdout, result.stdout
    assert "onnxruntime and PyTorch differ by at most " in result.stdout
    exported = copy / "models" / "fine_tuning.onnx"
    content = exported.read_bytes()
    assert b"site-packages" not in content
    assert run(copy, "stages", "export", "fine_tuning").returncode == 0
    assert exported.read_bytes() == content

    examples_predict_as_we_do(copy / "models" / "fine_tuning", sorted(images.iterdir())[0], "onnx", "torchvision")

    (copy / "params.yaml").write_text(params)
    assert run(copy, "stages", "compare").returncode == 0
    assert not exported.exists()


def examples_predict_as_we_do(model: Path, photo: Path, *scripts: str) -> None:
    ours = predict(photo.parent, model.with_suffix(".safetensors"), photo, "--json")
    expected = json.loads(ours.stdout)[0]["classes"]
    for script in scripts:
        suffix = {"onnx": ".onnx", "torchvision": ".safetensors"}[script]
        path = PROJECT / "docs" / f"predict_{script}.py"
        assert len(path.read_text().splitlines()) <= 30
        command = [sys.executable, str(path), str(model.with_suffix(suffix)), str(photo)]
        done = subprocess.run(command, cwd=photo.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = [line.split(" ", 1) for line in done.stdout.splitlines()]
        assert [name for _, name in found] == [top["class"] for top in expected]
        for (probability, _), top in zip(found, expected, strict=True):
            assert float(probability) == pytest.approx(top["probability"], rel=0, abs=6e-5)  # printed to four decimals


@pytest.mark.slow
def test_flip_averaging_is_the_same_in_evaluation_prediction_and_elsewhere(copy: Path, images: Path, run: Run) -> None:
    file = copy / "models" / "fine_tuning.safetensors"
    model, header = load_model(file)
    save_model(file, model, header | {"input": "pixels", "flip_averaging": True})
    evaluated_and_predicted(copy, images, model, run)
    examples_predict_as_we_do(copy / "models" / "fine_tuning", sorted(images.iterdir())[0], "onnx", "torchvision")


@pytest.mark.slow
def test_a_pooled_head_is_trained_alone_and_predicts_the_same_everywhere(copy: Path, images: Path, run: Run) -> None:
    rates = {"classifier": 1e-2}
    pooled = {"pooled": ["layer3", "layer4"], "learning_rates": rates, "input": "pixels", "flip_averaging": True}
    params = merge(read_yaml(copy / "params.yaml"), {"approaches": {"fine_tuning": pooled}})
    params["approaches"]["fine_tuning"]["learning_rates"] = rates
    (copy / "params.yaml").write_text(yaml.safe_dump(params))
    before, _ = load_model(copy / "models" / "feature_extraction.safetensors")
    result = run(copy, "stages", "train", "fine_tuning")
    assert result.returncode == 0, result.stdout
    model, header = load_model(copy / "models" / "fine_tuning.safetensors")
    assert header["parameters"]["trainable"] == 3 * (256 + 512) * 4 + 4
    trained = model.state_dict()
    for name, tensor in before.state_dict().items():
        assert name.startswith("fc.") or torch.equal(trained[f"backbone.{name}"], tensor)
    assert trained["classifier.0.num_batches_tracked"] > 0
    evaluated_and_predicted(copy, images, model, run)
    examples_predict_as_we_do(copy / "models" / "fine_tuning", sorted(images.iterdir())[0], "onnx")
    assert run(copy, "stages", "explain").returncode == 0


def evaluated_and_predicted(copy: Path, images: Path, model: nn.Module, run: Run) -> None:
    """Evaluation and prediction of fine_tuning give the mean of images and their mirror images."""
    file = copy / "models" / "fine_tuning.safetensors"
    for stage in ("evaluate", "export"):
        result = run(copy, "stages", stage, "fine_tuning")
        assert result.returncode == 0, result.stdout

    test = Split(copy / "data" / "pixels", "test")
    pixels = normalise(test.central(range(len(test)), 32), MEAN, STD, torch.device("cpu"))
    with torch.no_grad():
        once, mirrored = model(pixels), model(pixels.flip(3))
        confidence = ((once + mirrored) / 2).softmax(1).amax(1)
    assert (once - mirrored).abs().max() > 0.01
    table = pd.read_csv(copy / "predictions" / "fine_tuning.csv")
    assert table["confidence"].to_numpy() == pytest.approx(confidence.numpy(), abs=1e-5)

    predicted = json.loads(predict(copy, file, images, "--json").stdout)
    found = {int(Path(row["file"]).stem): row["classes"][0]["probability"] for row in predicted}
    assert found == pytest.approx(dict(zip(table["id"], table["confidence"], strict=True)), abs=1e-5)


def test_an_export_that_computes_otherwise_is_refused(project: Path, tmp_path: Path) -> None:
    model, header = load_model(project / "models" / "fine_tuning.safetensors")
    export_onnx(tmp_path / "model.onnx", model, header)
    pixels = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        logits = model(pixels)
    check_onnx(tmp_path / "model.onnx", pixels.numpy(), logits)
    with pytest.raises(UserError, match=r"model\.onnx: onnxruntime computes other logits than PyTorch, by up to 0\.01"):
        check_onnx(tmp_path / "model.onnx", pixels.numpy(), logits + 0.01)
    with pytest.raises(UserError, match="computes other logits"):
        check_onnx(tmp_path / "model.onnx", pixels.numpy(), logits.flip(1))
