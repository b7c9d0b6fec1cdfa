"""A model's file alone predicts for image files what evaluation predicts for the same images."""

import csv
import io
import json
import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.base.cache import Cache
from pipeline.base.errors import UserError
from pipeline.data.images import central_square
from pipeline.data.views import Views, normalise
from pipeline.export.card import EXAMPLES
from pipeline.export.onnx import export_onnx
from pipeline.models.files import TrainedModel, load_model, save_model, split_classifier
from pipeline.models.frozen import Inputs, logits
from pipeline.models.known import keep, split_answers
from pipeline.models.networks import new_network
from pipeline.predict import main
from pipeline.training.evaluation import predictions, top_classes
from tests.conftest import HEADER
from tests.small import CLASSES, COUNTS, CPU, SmallData, small_network, write_small_data
from tools.commands import environment
from tools.sandbox import PROJECT

Predict = Callable[..., int]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """With logits far apart, as a trained one has."""
    network = new_network(HEADER.network, None, len(HEADER.classes), seed=0).eval()
    with torch.no_grad():
        network.get_parameter("fc.weight").mul_(50)
    return network


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return write_small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def folder(tmp_path: Path, images: SmallData) -> Path:
    """The test images as files, named by their ids, in photos/."""
    (tmp_path / "photos").mkdir()
    split = images.splits["test"]
    for image_id, member in zip(split.ids, split.members, strict=True):
        (tmp_path / "photos" / f"{image_id}.jpg").write_bytes(images.archive.read(member))
    return tmp_path


@pytest.fixture
def predict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """``python -m pipeline.predict`` in ``folder``."""

    def call(*arguments: str | Path) -> int:
        monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments)])
        return main()

    monkeypatch.chdir(folder)
    return call


@pytest.mark.parametrize(
    ("precision", "flip_averaging", "fit"),
    [("fp32", False, "crop"), ("bf16", True, "crop"), ("fp32", False, "pad")],
)
def test_predictions_are_those_of_the_evaluation(
    network: nn.Module,
    images: SmallData,
    predict: Predict,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    flip_averaging: bool,
    fit: str,
) -> None:
    changes = {"precision": precision, "flip_averaging": flip_averaging, "fit": fit}
    save_model(Path("model"), TrainedModel(network, HEADER.model_copy(update=changes)))
    model = load_model(Path("model"))
    cache = Cache(Path("cache"), 10**9)
    pixels = replace(images.pixels("test", cache), preprocessing=model.preprocessing)
    beginning, rest = split_classifier(model, [], CPU)
    evaluated = logits(rest, Inputs(Views(pixels, CPU), beginning.parts, cache))
    table = predictions(split_answers(evaluated)[0], pixels.split)

    assert predict("model", "photos", "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    found = {int(Path(answer["file"]).stem): answer["classes"] for answer in answers}
    assert set(found) == set(table["id"])
    tolerance = 1e-4 if precision == "fp32" else 0.05
    for row in table.itertuples():
        answer = {top["class"]: top["probability"] for top in found[int(str(row.id))]}
        name = HEADER.classes[int(str(row.prediction))]
        assert answer[name] == pytest.approx(row.confidence, abs=tolerance)
        assert list(answer.values()) == sorted(answer.values(), reverse=True)
        assert sum(answer.values()) == pytest.approx(1)


def test_what_cannot_be_read_is_named_and_the_others_are_predicted(
    network: nn.Module, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Path("model"), TrainedModel(network, HEADER))
    first, *_ = sorted(Path("photos").iterdir())
    Path("broken one.jpg").write_bytes(b"<html>")
    assert predict("model", first, "broken one.jpg", "nowhere.jpg") == 1
    printed = capsys.readouterr()
    name, *classes = printed.out.splitlines()
    assert name == str(first)
    assert len(classes) == CLASSES + 1  # and an empty line
    assert classes[0].split("%  ")[1] in HEADER.classes
    broken, nowhere = printed.err.splitlines()
    assert broken.startswith("error: broken one.jpg: not a readable image")
    assert nowhere == "error: nowhere.jpg: No such file or directory"


@pytest.mark.slow
def test_it_runs_in_any_directory(network: nn.Module, folder: Path) -> None:
    """As after ``pip install .``"""
    save_model(folder / "model", TrainedModel(network, HEADER))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.predict", "model", "photos", "nowhere.jpg"],
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout.count("photos/") == COUNTS["test"]
    assert done.stderr == "error: nowhere.jpg: No such file or directory\n"


def test_a_table_has_a_row_a_class(
    network: nn.Module, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Path("model"), TrainedModel(network, HEADER))
    (Path("photos") / "notes.txt").write_text("not an image")
    assert predict("model", ".", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    columns = ["file", "class", "probability", "verdict"]
    assert [list(row) for row in rows] == [columns] * 9 * CLASSES
    assert len({row["file"] for row in rows}) == COUNTS["test"]


def test_an_answer_that_is_not_certain_enough_is_unsure(
    network: nn.Module, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Path("model"), TrainedModel(network, HEADER))
    predict("model", "photos", "--json", "--top", "1")
    best = [answer["classes"][0]["probability"] for answer in json.loads(capsys.readouterr().out)]
    middle = sorted(best)[len(best) // 2]
    save_model(
        Path("model"), TrainedModel(network, HEADER.model_copy(update={"sure_from": middle}))
    )
    predict("model", "photos", "--json", "--top", "1")
    answers = json.loads(capsys.readouterr().out)
    expected = ["unsure" if value < middle else "sure" for value in best]
    assert [answer["verdict"] for answer in answers] == expected
    predict("model", "photos")
    assert capsys.readouterr().out.count(f"\n  unsure: below {middle:.1%}\n") == len(best) // 2


def test_an_image_that_is_like_no_training_image_is_none_of_these(
    network: nn.Module, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    known = keep(torch.rand(3, 1024))
    for limit, verdict in ((-1.0, "sure"), (1.0, "none of these")):
        header = HEADER.model_copy(update={"known_from": limit})
        save_model(Path("model"), TrainedModel(network, header, known))
        predict("model", "photos", "--csv", "--top", "1")
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert {row["verdict"] for row in rows} == {verdict}
    predict("model", "photos")
    line = "\n  none of these: it is like no training image\n"
    assert capsys.readouterr().out.count(line) == len(rows)


def test_probabilities_are_those_after_the_temperature(
    network: nn.Module, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for temperature in (1.0, 3.0):
        header = HEADER.model_copy(update={"temperature": temperature})
        save_model(Path("model"), TrainedModel(network, header))
        predict("model", "photos", "--json", "--top", str(CLASSES))
        answers = json.loads(capsys.readouterr().out)
        found.append([[row["probability"] for row in answer["classes"]] for answer in answers])
    before, after = np.log(np.array(found))
    np.testing.assert_allclose(
        after - after[:, :1], (before - before[:, :1]) / 3, rtol=0, atol=1e-3
    )


def test_names_come_from_standard_input_and_hidden_files_of_folders_are_left_out(
    network: nn.Module,
    predict: Predict,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_model(Path("model"), TrainedModel(network, HEADER))
    first, second, *_ = sorted(Path("photos").iterdir())
    for hidden in ("._1.jpg", ".thumbnails/1.jpg", "__MACOSX/1.jpg"):
        path = Path("photos") / hidden
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(first.read_bytes())
    predict("model", "photos", "--json")
    assert len(json.loads(capsys.readouterr().out)) == COUNTS["test"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{second}\n{first}\n\n"))
    predict("model", "-", "--json")
    answers = json.loads(capsys.readouterr().out)
    assert [answer["file"] for answer in answers] == [str(second), str(first)]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UserError, match="standard input: no image in it"):
        predict("model", "-")


@pytest.mark.slow
def test_names_that_cannot_be_shown_and_readers_that_stop_end_nothing(
    network: nn.Module, folder: Path
) -> None:
    save_model(folder / "model", TrainedModel(network, HEADER))
    photo = next((folder / "photos").iterdir()).read_bytes()
    (folder / "photos" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(photo)
    program = [sys.executable, "-m", "pipeline.predict", "model", "photos"]
    variables = environment() | {"PYTHONPATH": str(PROJECT), "LC_ALL": "C", "PYTHONUTF8": "0"}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command.replace("PREDICT", shlex.join(program))],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
        )

    done = run("PREDICT --json")
    assert not done.returncode, done.stderr
    assert len(json.loads(done.stdout)) == COUNTS["test"] + 1
    assert run("PREDICT").stdout.count("photos/") == COUNTS["test"] + 1
    cut = run("PREDICT | head -n 1")
    assert (cut.returncode, cut.stderr) == (0, "")


def test_a_prediction_is_explained_by_a_png_in_the_current_directory(
    network: nn.Module, predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Path("model"), TrainedModel(network, HEADER))
    photo, _, *others = sorted(Path("photos").iterdir())
    for other in others:
        other.unlink()
    explained = Path(f"{photo.stem}_explained.png")
    assert predict("model", photo, "nowhere.jpg", "--json", "--explain") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)[0]["file"] == str(photo)
    assert printed.err.startswith(f"note: {explained} shows what speaks for the first class\nerror")
    assert [path.name for path in Path().glob("*.*")] == [explained.name]
    with Image.open(explained) as image:
        assert image.width > image.height > 300

    content = explained.read_bytes()
    assert predict("model", ".", "--csv", "--explain") == 0
    assert explained.read_bytes() == content
    assert len(list(Path().glob("*_explained.png"))) == 2  # none of an explanation


def test_an_explanation_that_cannot_be_made_is_one_line(
    network: nn.Module, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, other, *_ = sorted(Path("photos").iterdir())
    save_model(Path("model"), TrainedModel(network, HEADER))
    other.rename(photo.name)
    message = rf"several images are called '{photo.stem}'; --explain would write one file"
    with pytest.raises(UserError, match=message):
        predict("model", photo, photo.name, "--explain")
    Path(f"{photo.stem}_explained.png").mkdir()
    with pytest.raises(UserError, match=rf"^{photo.stem}_explained\.png: "):
        predict("model", photo, "--explain")
    monkeypatch.setattr("pipeline.predict.gradcam", lambda *arguments: None)
    with pytest.raises(UserError, match=r"shufflenet.* has no feature map that --explain could"):
        predict("model", photo, "--explain")


def test_a_folder_without_images_and_a_file_that_is_not_a_model_are_named(
    predict: Predict,
) -> None:
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"^empty: no image in it$"):
        predict("model", "empty")
    Path("other").write_bytes(b"text")
    with pytest.raises(UserError, match=r"^other: not a model of this pipeline"):
        predict("other", "photos")
    with pytest.raises(UserError, match=r"1\.jpg: is an image; the model comes first"):
        predict("photos/1.jpg", "model")


def example(
    name: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> list[tuple[str, float]]:
    """What an example prints: class and probability."""
    path = EXAMPLES / f"predict_{name}.py"
    assert "pipeline" not in path.read_text()
    monkeypatch.setattr("sys.argv", [path.name, *arguments])
    runpy.run_path(str(path))
    lines = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    return [(name, float(probability)) for probability, name in lines]


GREY = (np.random.default_rng(0).uniform(0, 0.9, (40, 70)) * 65535).astype(np.uint16)
CLEAR = np.random.default_rng(1).integers(0, 256, (60, 41, 4), dtype=np.uint8)
LONG = CLEAR[:8, :, :3].repeat(5, axis=1)
# What the examples are to read as predict does: values, suffix.
IMAGES: dict[str, tuple[np.ndarray, str]] = {
    "long": (LONG, "png"),
    "upright": (LONG.swapaxes(0, 1), "png"),
    "transparent": (CLEAR, "png"),
    "16 bits": (GREY, "png"),
    "12 bits": (GREY // 16, "png"),
    "8 bits in 16": (GREY // 256, "tif"),
    "signed": (GREY.astype(np.int16), "tif"),
    "floats to 1": (GREY / np.float32(65535), "tif"),
    "floats to 4095": (GREY / np.float32(16), "tif"),
    "above 16 bits": (GREY.astype(np.int32) * 9, "tif"),
    "one value": (np.full((20, 20), -3, np.float32), "tif"),
}


QUICK = ("transparent", "16 bits")  # and a photograph; the other kinds are slow together


@pytest.fixture(
    params=[
        "photograph",
        *(pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in IMAGES),
    ]
)
def image(request: pytest.FixtureRequest, folder: Path) -> Path:
    """An image in a file, each with its own way of being read."""
    if request.param == "photograph":
        return sorted((folder / "photos").iterdir())[0]
    values, suffix = IMAGES[request.param]
    path = folder / f"image.{suffix}"
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ("flip_averaging", "fit"), [(False, "crop"), (True, "crop"), (False, "pad")]
)
def test_the_example_with_torchvision_predicts_the_same(
    network: nn.Module,
    predict: Predict,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flip_averaging: bool,
    fit: str,
) -> None:
    header = HEADER.model_copy(update={"flip_averaging": flip_averaging, "fit": fit})
    save_model(Path("model.safetensors"), TrainedModel(network, header))
    predict("model.safetensors", image, "--json")
    (answer,) = json.loads(capsys.readouterr().out)
    found = example("torchvision", ["model.safetensors", str(image)], monkeypatch, capsys)
    assert [name for name, _ in found] == [top["class"] for top in answer["classes"]]
    expected = [top["probability"] for top in answer["classes"]]
    assert [value for _, value in found] == pytest.approx(expected, abs=6e-5)  # four decimals


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small network as ONNX files, by their fit."""
    paths = {fit: tmp_path_factory.mktemp(fit) / "model.onnx" for fit in ("crop", "pad")}
    for fit, path in paths.items():
        header = HEADER.model_copy(update={"fit": fit})
        export_onnx(path, TrainedModel(small_network(), header))
    return paths


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_the_example_with_onnx_predicts_the_same(
    exported: dict[str, Path],
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fit: str,
) -> None:
    network = small_network()
    size = TrainedModel(network, HEADER.model_copy(update={"fit": fit})).preprocessing
    square = central_square(image.read_bytes(), "x", size)
    with torch.no_grad():
        expected = network(normalise(torch.from_numpy(square[None]), size))[0]
    found = example("onnx", [str(exported[fit]), str(image)], monkeypatch, capsys)
    table = top_classes(expected, HEADER.classes)
    assert [name for name, _ in found] == table["class"].tolist()
    assert [value for _, value in found] == pytest.approx(table["probability"].tolist(), abs=6e-5)
