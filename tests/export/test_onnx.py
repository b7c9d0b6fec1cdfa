"""ONNX files: the same logits as the model, and all that is needed to use them."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.export.onnx import check_onnx, export_onnx
from pipeline.models.files import Header, TrainedModel
from pipeline.models.known import keep, split_answers

HEADER = Header(
    approach="fine_tuning",
    network="resnet18",
    classes=["rose", "colt's foot", "玫瑰", "iris", "lily", "tulip", "daisy"],
    resize=36,
    crop=32,
    mean=[0.5, 0.4, 0.3],
    std=[0.2, 0.3, 0.4],
    fit="crop",
    precision="fp32",
    flip_averaging=False,
    initial="backbone",
    trained=["fc"],
    parameters={"total": 2, "trainable": 1},
    temperature=1.0,
    sure_from=0.0,
    known_from=-1.0,
)


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    """Small, in place of a network of the pipeline: the exporter takes seconds for those."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, len(HEADER.classes))).eval()
    return TrainedModel(network, HEADER, keep(torch.rand(20, 8)))


@pytest.fixture(scope="module")
def file(model: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(path, model)
    return path


def images_and_answers(model: TrainedModel, count: int) -> tuple[np.ndarray, Tensor]:
    torch.manual_seed(1)
    pixels = torch.rand(count, 3, 32, 32)
    with torch.no_grad():
        return pixels.numpy(), model.exportable()(pixels)


@pytest.mark.parametrize("count", [1, 3])
def test_it_computes_the_same_for_any_number_of_images(
    model: TrainedModel, file: Path, count: int
) -> None:
    pixels, answers = images_and_answers(model, count)
    logits, similar = split_answers(answers)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found, probabilities, similarity = session.run(None, {"pixels": pixels})
    np.testing.assert_allclose(similarity, similar.numpy(), atol=1e-5)
    np.testing.assert_allclose(found, logits.numpy(), atol=1e-5)
    np.testing.assert_allclose(probabilities, logits.softmax(1).numpy(), atol=1e-5)
    assert check_onnx(file, pixels, answers) < 1e-5


def test_metadata_say_how_to_use_it_and_nothing_of_this_machine(file: Path) -> None:
    proto = onnx.load(file)
    metadata = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert metadata == {
        "classes": HEADER.classes,
        "transforms": {
            "resize": 36,
            "crop": 32,
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.3, 0.4],
            "fit": "crop",
        },
        "limits": {"sure_from": 0.0, "known_from": -1.0},
    }
    for text in (b".py", str(Path.cwd()).encode()):
        assert text not in file.read_bytes()


def test_an_export_has_the_same_bytes_each_time(
    model: TrainedModel, file: Path, tmp_path: Path
) -> None:
    export_onnx(tmp_path / "again.onnx", model)
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def test_an_export_that_computes_something_else_is_refused(model: TrainedModel, file: Path) -> None:
    pixels, answers = images_and_answers(model, 3)
    message = r"model\.onnx: onnxruntime computes other logits than PyTorch, by up to 0\.01"
    with pytest.raises(UserError, match=message):
        check_onnx(file, pixels, answers + 0.01)
    with pytest.raises(UserError, match="computes other logits"):
        check_onnx(file, pixels, answers.flip(1))
