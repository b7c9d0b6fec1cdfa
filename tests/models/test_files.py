"""A model's file holds all that is needed to use it, and what it says holds wherever it is used."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.base.errors import UserError
from pipeline.models.files import Header, TrainedModel, load_model, save_model, split_classifier
from pipeline.models.freezing import section
from pipeline.models.known import keep, split_answers
from pipeline.models.networks import new_network, weights_digest
from tests.conftest import HEADER
from tests.small import CPU, flip_bit

FILE = "model.safetensors"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return new_network(HEADER.network, None, len(HEADER.classes), seed=0).eval()


def changed(**changes: Any) -> Header:
    return HEADER.model_copy(update=changes)


def test_a_saved_model_comes_back_whole(network: nn.Module, tmp_path: Path) -> None:
    network = network.to(memory_format=torch.channels_last)  # as after a training
    known = keep(torch.rand(5, 1024))
    save_model(tmp_path / FILE, TrainedModel(network, HEADER, known))
    model = load_model(tmp_path / FILE)
    assert model.header == HEADER
    assert torch.equal(model.known, known)
    assert not any(module.training for module in model.network.modules())
    assert weights_digest(model.network.state_dict()) == weights_digest(network.state_dict())
    size = model.preprocessing
    assert (size.resize, size.crop) == (HEADER.resize, HEADER.crop)
    assert (size.mean, size.std, size.fit) == (HEADER.mean, HEADER.std, HEADER.fit)
    padded = TrainedModel(network, changed(fit="pad"))
    assert padded.preprocessing == replace(size, fit="pad")


def test_the_bytes_of_a_file_are_those_of_the_model(network: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path / FILE, TrainedModel(network, HEADER))
    save_model(tmp_path / "another name", TrainedModel(network, HEADER))
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "another name").read_bytes()
    save_model(tmp_path / "another name", TrainedModel(network, changed(classes=["a", "b", "d"])))
    assert (tmp_path / FILE).read_bytes() != (tmp_path / "another name").read_bytes()


def test_other_programs_can_read_it(network: nn.Module, tmp_path: Path) -> None:
    save_model(tmp_path / FILE, TrainedModel(network, HEADER))
    with safe_open(tmp_path / FILE, "pt") as file:
        header = json.loads(file.metadata()["model"])
    assert header == HEADER.model_dump()
    assert load_file(tmp_path / FILE).keys() == {*network.state_dict(), "known"}


def rewrite(path: Path, header: Any, **tensors: torch.Tensor) -> None:
    """The same file with another header or other tensors."""
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(load_file(path) | tensors, path, metadata={"model": text})


@pytest.mark.parametrize(
    ("header", "tensors", "reason"),
    [
        ("no JSON", {}, "header: Invalid JSON"),
        ({}, {}, r"\(approach: Field required\)"),
        (HEADER.model_dump() | {"pooled": None}, {}, "pooled: Extra inputs are not permitted"),
        (HEADER.model_dump() | {"precision": "fp8"}, {}, "precision: Input should be 'fp32', "),
        (HEADER.model_dump(exclude={"fit"}), {}, r"\(fit: Field required\)"),
        (HEADER.model_dump() | {"fit": "pad", "mean": [2, 0, 0]}, {}, "is no colour to pad with"),
        (HEADER.model_dump() | {"classes": []}, {}, "classes: List should have at least 1 item"),
        (HEADER.model_dump() | {"classes": ["a"]}, {}, r"fc\.weight is \[3, 1024\] in place of"),
        (HEADER.model_dump() | {"network": "resnet19"}, {}, "torchvision has no such network"),
        (HEADER.model_dump(exclude={"known_from"}), {}, r"\(known_from: Field required\)"),
        (HEADER.model_dump(), {"more": torch.ones(1)}, "more is unknown to it"),
        (HEADER.model_dump(), {"known": torch.ones(2, 1024)}, "known: not features of 1024"),
        (HEADER.model_dump(), {"known": torch.ones(2, 3).half()}, "known: not features of 1024"),
    ],
)
def test_a_file_that_is_not_of_this_pipeline_is_refused(
    network: nn.Module,
    tmp_path: Path,
    header: Any,
    tensors: dict[str, torch.Tensor],
    reason: str,
) -> None:
    save_model(tmp_path / FILE, TrainedModel(network, HEADER))
    rewrite(tmp_path / FILE, header, **tensors)
    with pytest.raises(UserError, match=reason) as error:
        load_model(tmp_path / FILE)
    assert str(error.value).startswith(f"{tmp_path / FILE}: not a model of this pipeline (")
    assert str(error.value).endswith("); run dvc repro train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["missing", "empty", "other", "cut", "flipped", "weights"])
def test_a_damaged_file_is_refused(network: nn.Module, tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILE
    save_model(path, TrainedModel(network, HEADER))
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "other":
        path.write_bytes(b"12345678 no such thing")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "flipped":
        flip_bit(path, place=0)
    else:
        save_file({"a": torch.ones(2)}, path)  # without a header
    with pytest.raises(UserError, match=r"not a model of this pipeline \(.*\); run dvc") as error:
        load_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("precision", "flip_averaging"), [("fp32", True), ("bf16", False)])
def test_precision_and_flip_averaging_hold_in_the_classifier_and_in_its_parts(
    network: nn.Module, precision: str, flip_averaging: bool
) -> None:
    header = changed(precision=precision, flip_averaging=flip_averaging)
    model = TrainedModel(network, header)
    torch.manual_seed(0)
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            once = network(images).float()
            mirrored = network(images.flip(-1)).float()
        expected = (once + mirrored) / 2 if flip_averaging else once
        found = model.classifier(CPU)(images).float()
        frozen, rest = split_classifier(model, [], CPU)
        value = images
        for part in frozen.parts:
            value = part.network(value)
        in_parts = rest(value).float()
        exact = TrainedModel(network, changed(flip_averaging=flip_averaging)).classifier(CPU)(
            images
        )
    tolerance = 0.02 * expected.abs().max().item() if precision == "bf16" else 1e-5
    torch.testing.assert_close(split_answers(found)[0], expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(in_parts, found, rtol=0, atol=tolerance)
    assert torch.equal(found, exact) == (precision == "fp32")
    assert len(frozen.parts) == (0 if flip_averaging else 1)
    assert all(part.precision == precision for part in frozen.parts)


def test_its_frozen_beginning_is_that_of_the_training(network: nn.Module) -> None:
    """The parts that do not change are as in the backbone, so what is in the cache serves both."""
    frozen, _ = split_classifier(TrainedModel(network, HEADER), [["fc"]], CPU)
    (part,) = frozen.parts
    backbone = new_network(HEADER.network, dict(network.state_dict()), 7, seed=1)
    again, _ = split_classifier(TrainedModel(backbone, HEADER), [["fc"]], CPU)
    assert part.module == "stage4"
    assert again.parts[0].digest == part.digest


def test_it_is_left_as_it_was(network: nn.Module) -> None:
    before = weights_digest(network.state_dict())
    model = TrainedModel(network, changed(precision="bf16"))
    model.classifier(CPU)
    split_classifier(model, [], CPU)
    assert weights_digest(network.state_dict()) == before
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(section(network, 0, None)(images), network(images))
