"""The network: the published parameter counts, a cut that changes no bit, weights that fit or are refused."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from pipeline.base.errors import UserError
from pipeline.models.gradcam import gradcam
from pipeline.models.networks import (
    State,
    category_names,
    check_runs,
    head_name,
    new_network,
    pretrained_network,
    read_backbone,
)
from pipeline.models.sections import count_parameters, for_inference, in_precision, section, trained_section, unfreeze
from pipeline.models.storage import load_model, save_model, weights_digest
from pipeline.params import load_params
from pipeline.sources.flowers102 import CLASSES
from pipeline.training.fit import fit
from tests.conftest import HEADER
from tools.sandbox import PROJECT

# A network of every family of torchvision: side of the images, where it is cut in two, what is trained behind the cut.
FAMILIES = {
    "alexnet": (64, "features-9", ["features.10", "classifier"]),
    "convnext_tiny": (32, "features-6", ["features.7", "classifier"]),
    "densenet121": (32, "features-transition3", ["features.denseblock4", "features.norm5", "classifier"]),
    "efficientnet_b0": (32, "features-6", ["features.7", "features.8", "classifier"]),
    "googlenet": (32, "maxpool4", ["inception5a", "inception5b", "fc"]),
    "inception_v3": (75, "Mixed_6e", ["Mixed_7a", "Mixed_7b", "Mixed_7c", "fc"]),
    "maxvit_t": (224, "blocks-2", ["blocks.3", "classifier"]),
    "mnasnet0_5": (32, "layers-12", ["layers.13", "layers.14", "layers.15", "classifier"]),
    "mobilenet_v2": (32, "features-16", ["features.17", "features.18", "classifier"]),
    "mobilenet_v3_small": (32, "features-10", ["features.11", "features.12", "classifier"]),
    "regnet_y_400mf": (32, "trunk_output-block3", ["trunk_output.block4", "fc"]),
    "resnet18": (32, "layer3", ["layer4", "fc"]),
    "shufflenet_v2_x0_5": (32, "stage3", ["stage4", "conv5", "fc"]),
    "swin_t": (32, "features-6", ["features.7", "norm", "head"]),
    "vgg11_bn": (32, "features-21", ["features.22", "features.23", "features.25", "features.26", "classifier"]),
    "vit_b_16": (224, "encoder-layers-encoder_layer_10", ["encoder.layers.encoder_layer_11", "encoder.ln", "heads"]),
}
NO_MAP = ("vit_b_16", "swin_t", "shufflenet_v2_x0_5")  # for Grad-CAM: tokens, or one place only in images so small


@pytest.mark.parametrize(("approach", "trainable"), [("feature_extraction", 52_326), ("fine_tuning", 8_446_054)])
def test_parameter_counts_are_the_published_ones(approach: str, trainable: int) -> None:
    params = load_params(PROJECT / "params.yaml")
    model = new_network(params.backbone.network, None, CLASSES, params.train.seed)
    unfreeze(model, params.approaches[approach].learning_rates, "approaches")
    assert count_parameters(model) == {"total": 11_228_838, "trainable": trainable}


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for rounding: random weights can make outputs of any size."""
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()


@pytest.mark.parametrize(
    "network",  # vgg11_bn has half a gigabyte of weights, and takes 14 s
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "vgg11_bn")) for name in FAMILIES],
)
def test_a_network_of_every_family_is_cut_trained_saved_and_loaded(network: str, tmp_path: Path) -> None:
    """From a file of weights for 1,000 classes to a model in a file that predicts what the trained one does."""
    crop, cut, trained = FAMILIES[network]
    state = dict(get_model(network, weights=None).state_dict())  # as read_backbone gives it
    model, rates, cpu = new_network(network, state, 3, seed=0), dict.fromkeys(trained, 1e-3), torch.device("cpu")
    images, labels = torch.rand(3, 3, crop, crop), np.array([0, 1, 2])
    whole = section(model.eval())
    with torch.no_grad():
        logits, features = model(images), section(model, to=cut)(images)
        assert logits.shape == (3, 3)
        assert torch.equal(whole(images), logits)
        for place in (cut, "head"):
            assert torch.equal(section(model, after=place)(section(model, to=place)(images)), logits), place
        assert_near(for_inference(section(model, to=cut))(images), features)
    evidence = gradcam(whole, images[:1], 0)
    assert (evidence is None) == (network in NO_MAP)
    assert evidence is None or len(set(evidence.shape)) == 1 < len(evidence)

    unfreeze(model, rates, "key")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_runs(model, crop, "key")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    split = (lambda rows, epoch: features[rows], labels)
    list(
        fit(
            model,
            section(model, after=cut),
            rates,
            split,
            split,
            load_params(PROJECT / "params.yaml").train.model_copy(update={"epochs": 1, "batch_size": 2}),
            cpu,
        )
    )
    for name, value in model.state_dict().items():
        assert name.startswith(tuple(f"{module}." for module in trained)) or torch.equal(value, state[name]), name

    save_model(tmp_path / "model.safetensors", model, HEADER | {"network": network})
    loaded, _ = load_model(tmp_path / "model.safetensors")
    assert weights_digest(loaded.state_dict()) == weights_digest(model.state_dict())
    with torch.no_grad():  # memory formats differ, and with them last digits
        assert_near(loaded(images), model.eval()(images))


@pytest.mark.parametrize(
    ("network", "crop", "reason"),
    [
        ("vit_b_16", 64, "Wrong image height! Expected 224 but got 64!"),
        ("inception_v3", 64, "Kernel size can't be greater than actual input size"),
        ("maxvit_t", 64, "is invalid for input of size"),
    ],
)
def test_images_of_a_size_that_a_network_cannot_take_are_refused(network: str, crop: int, reason: str) -> None:
    with pytest.raises(
        UserError, match=rf"params\.yaml: key: .* with transforms\.crop = 64 on cpu: .*{reason}"
    ) as error:
        check_runs(new_network(network, None, 3, seed=0).eval(), crop, "key")
    assert "\n" not in str(error.value)


def test_published_files_of_densenet_googlenet_and_inception_load() -> None:
    """DenseNet's have other names, the others auxiliary heads, and take what ImageNet's mean and std normalised."""
    state = get_model("densenet121", weights=None).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): value for name, value in state.items()}
    assert set(old) != set(state)
    pretrained_network("densenet121", old)
    images = torch.rand(2, 3, 96, 96)
    for network in ("googlenet", "inception_v3"):
        published = get_model(network, weights=None, aux_logits=True, transform_input=True, init_weights=False).eval()
        with torch.no_grad():
            logits = pretrained_network(network, published.state_dict())(images)
            assert torch.equal(logits, published(images))


def test_a_section_is_what_lies_between_two_modules() -> None:
    model = new_network("resnet18", None, 5, 0).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        at_layer3 = section(model, to="layer3")(images)
        pooled = section(model, after="layer3", to="avgpool")(at_layer3)
        assert at_layer3.shape == (1, 256, 4, 4)
        assert pooled.shape == (1, 512, 1, 1)
        assert torch.equal(section(model, after="avgpool")(pooled), model(images))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("layer5", r"features\.layer5: no such module; the network has conv1, bn1"),
        ("layer3-1-conv1", r"features\.layer3-1-conv1: more than its output goes on"),  # the shortcut passes it by
    ],
)
def test_a_module_that_is_no_place_to_cut_is_refused(module: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        section(new_network("resnet18", None, 5, 0), to=module)


def test_features_from_behind_a_trained_module_are_refused() -> None:
    model = new_network("resnet18", None, 5, 0)
    trained_section(model, "layer3", {"layer4": 1e-4, "fc": 1e-3}, "approaches.x")
    for trained in ("layer4", "layer4.1", "layer4.0.bn2"):
        with pytest.raises(UserError, match=rf"approaches\.x\.input: {trained} is trained, but lies before it"):
            trained_section(model, "avgpool", {trained: 1e-4, "fc": 1e-3}, "approaches.x")


def test_only_the_named_modules_train() -> None:
    model = new_network("resnet18", None, 5, 0)
    assert unfreeze(model, {"layer4": 1e-4, "head": 1e-3}, "key") == {"layer4": 1e-4, "fc": 1e-3}
    for name, module in model.named_modules():
        if name:
            assert module.training == name.startswith(("layer4", "fc")), name
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == name.startswith(("layer4", "fc")), name


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"layer5": 1e-4, "fc": 1e-3}, r"key\.layer5: no such module .* conv1, bn1"),
        ({"relu": 1e-4, "fc": 1e-3}, r"key\.relu: no such module with parameters"),
        ({"layer4": 1e-4, "layer4.0": 1e-3, "fc": 1e-3}, r"key\.layer4\.0: is part of layer4"),
        ({"layer4": 1e-4}, r"key: fc, the new head, needs a learning rate"),
        ({"head": 1e-4, "fc": 1e-3}, r"key\.head: is fc, which has a learning rate already"),
    ],
)
def test_modules_that_cannot_be_trained_are_refused(rates: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        unfreeze(new_network("resnet18", None, 5, 0), rates, "key")


def test_the_new_head_depends_on_the_seed_alone() -> None:
    state = get_model("resnet18", weights=None).state_dict()
    torch.manual_seed(1)
    first = new_network("resnet18", state, 5, seed=3)
    torch.manual_seed(2)
    again, other = new_network("resnet18", state, 5, seed=3), new_network("resnet18", state, 5, seed=4)
    assert (
        weights_digest(first.state_dict()) == weights_digest(again.state_dict()) != weights_digest(other.state_dict())
    )


def test_half_precision_weights_are_computed_in_float32() -> None:
    state = {name: value.half() for name, value in get_model("resnet18", weights=None).state_dict().items()}
    assert {parameter.dtype for parameter in pretrained_network("resnet18", state).parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_any_floating_type_come_from_pth_or_safetensors(
    tmp_path: Path, suffix: str, dtype: torch.dtype
) -> None:
    state = {name: value.to(dtype) for name, value in get_model("resnet18").state_dict().items()}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    model = pretrained_network("resnet18", read_backbone(path))
    assert torch.equal(model.get_parameter("layer1.0.conv1.weight"), state["layer1.0.conv1.weight"].float())


def test_weights_of_another_network_are_refused() -> None:
    state = get_model("resnet34", weights=None).state_dict()
    for network in ("resnet18", "mobilenet_v3_small"):
        with pytest.raises(UserError, match=rf"weights of backbone\.path do not fit {network}"):
            pretrained_network(network, state)
    with pytest.raises(UserError, match="torchvision has no such network"):
        pretrained_network("resnet19", state)
    with pytest.raises(UserError, match="does not end in a linear layer"):
        head_name(get_model("squeezenet1_0", weights=None))


class Code:
    """A pickle of it runs a harmless command when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(2), "b": Code()}, r"it would run (posix|nt)\.mkdir"),
        (nn.Linear(2, 2), r"it would run torch\.nn\.modules\.linear\.Linear"),
        ({"epoch": 3, "state_dict": {"a": torch.ones(2)}}, "it holds a dict of epoch, state_dict"),
        ([torch.ones(2)], "it holds list"),
    ],
)
def test_what_is_no_state_dict_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "weights", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=rf"weights: not a state dict of tensors \({message}\); check backbone\.path"):
        read_backbone(tmp_path / "weights")
    assert not (tmp_path / "executed").exists()


def test_damaged_files_of_weights_are_refused_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    torch.save({"a": torch.ones(200)}, path)
    pth = path.read_bytes()
    save_file({"a": torch.ones(200)}, path)
    tensors = path.read_bytes()
    for content in (b"", b"<html>", pth[:500], tensors[:500], tensors + b"more", b"\xff" * 7 + tensors[7:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a state dict of tensors") as error:
            read_backbone(path)
        assert len(str(error.value)) < 300
        assert "\n" not in str(error.value)


def test_a_prefix_is_removed_and_what_is_no_number_is_refused(tmp_path: Path) -> None:
    for legacy in (False, True):
        torch.save({"module.a": torch.ones(2)}, tmp_path / "weights", _use_new_zipfile_serialization=not legacy)
        assert list(read_backbone(tmp_path / "weights")) == ["a"]
    torch.save({"a": torch.ones(1).expand(2**40)}, tmp_path / "weights")
    with pytest.raises(UserError, match="a tensor is larger than what it stores"):
        read_backbone(tmp_path / "weights")
    for value in ("nan", "inf"):
        save_file({"a": torch.ones(2), "b": torch.tensor([1, float(value)], dtype=torch.half)}, tmp_path / "weights")
        with pytest.raises(UserError, match="values that are infinite or no numbers, in 'b'"):
            read_backbone(tmp_path / "weights")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": torch.ones(64, 3, 3, 3)}, r"conv1\.weight is \[64, 3, 3, 3\] in place of \[64, 3, 7, 7\]"),
        ({"conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.int32)}, r"conv1\.weight is torch\.int32"),
        ({"conv1.weight": None, "bn1.bias": None}, r"conv1\.weight is missing; bn1\.bias is missing"),
        ({str(name): torch.ones(1) for name in range(5)}, "0 is unknown to it; 1 .*; 2 .*; and 2 more"),
        (
            {"fc.weight": torch.ones(0, 512), "fc.bias": torch.ones(0)},
            r"fc\.weight is \[0, 512\] .*; fc\.bias is \[0\] .*",
        ),
        ({"fc.weight": torch.tensor(1.0)}, r"fc\.weight is \[\] in place of \[1000, 512\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: State, message: str) -> None:
    state = {**get_model("resnet18", weights=None).state_dict(), **change}
    with pytest.raises(UserError, match=rf"weights of backbone\.path do not fit resnet18 \({message}\)"):
        pretrained_network("resnet18", {name: value for name, value in state.items() if value is not None})


def test_saved_model_comes_back_whole(tmp_path: Path) -> None:
    model = new_network("resnet18", None, 3, 0)
    save_model(tmp_path / "model.safetensors", model, HEADER)
    save_model(tmp_path / "other name.safetensors", model, HEADER)
    loaded, loaded_header = load_model(tmp_path / "model.safetensors")
    assert loaded_header == HEADER | {"flip_averaging": False, "pooled": None}
    assert not loaded.training
    assert weights_digest(loaded.state_dict()) == weights_digest(model.state_dict())
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "other name.safetensors").read_bytes()


def test_a_damaged_model_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"12345678 no such thing")
    with pytest.raises(UserError, match="not a model of this pipeline"):
        load_model(tmp_path / "model.safetensors")


def test_imagenet_classes_have_names() -> None:
    assert category_names("resnet18", 1000)[985] == "daisy"
    assert category_names("resnet18", 3) == ["class 1", "class 2", "class 3"]


def test_tf32_is_refused_where_there_is_none() -> None:
    with pytest.raises(UserError, match="precision = tf32 needs CUDA, but the device is cpu; say fp32"):
        in_precision(nn.Linear(2, 2), "tf32", torch.device("cpu"))


def test_a_pooled_head_that_reads_no_feature_map_is_refused() -> None:
    with pytest.raises(UserError, match=r"params\.yaml: pooled = \['layer5'\]: .*layer5"):
        new_network("resnet18", None, 3, 0, ["layer5"])
    with pytest.raises(UserError, match=r"params\.yaml: pooled: what fc gives is no feature map \(\[3\]\)"):
        new_network("resnet18", None, 3, 0, ["layer4", "fc"])
