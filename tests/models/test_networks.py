"""Networks of torchvision: weights that fit are loaded, others are refused and never run."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from pipeline.base.errors import UserError
from pipeline.explain.gradcam import gradcam
from pipeline.models.files import TrainedModel, load_model, save_model
from pipeline.models.freezing import (
    PartlyTrained,
    frozen_place,
    fuse_frozen,
    resolve_learning_rates,
    section,
)
from pipeline.models.known import split_answers
from pipeline.models.networks import (
    State,
    category_names,
    dry_run,
    head_name,
    new_network,
    pretrained_network,
    read_backbone,
    weights_digest,
)
from tests.conftest import HEADER, NETWORK
from tests.small import BLOCK_AND_HEAD, CPU, small_network

# A network of every family of torchvision: side of the images, the last modules.
FAMILIES = {
    "alexnet": (64, ["features.10", "classifier"]),
    "convnext_tiny": (32, ["features.7", "classifier"]),
    "densenet121": (32, ["features.denseblock4", "features.norm5", "classifier"]),
    "efficientnet_b0": (32, ["features.7", "features.8", "classifier"]),
    "googlenet": (32, ["inception5a", "inception5b", "fc"]),
    "inception_v3": (75, ["Mixed_7a", "Mixed_7b", "Mixed_7c", "fc"]),
    "maxvit_t": (224, ["blocks.3", "classifier"]),
    "mnasnet0_5": (32, ["layers.13", "layers.14", "layers.15", "classifier"]),
    "mobilenet_v2": (32, ["features.17", "features.18", "classifier"]),
    "mobilenet_v3_small": (32, ["features.11", "features.12", "classifier"]),
    "regnet_y_400mf": (32, ["trunk_output.block4", "fc"]),
    "resnet18": (32, ["layer4", "fc"]),
    "shufflenet_v2_x0_5": (32, ["stage4", "conv5", "fc"]),
    "swin_t": (32, ["features.7", "norm", "head"]),
    "vgg11_bn": (32, ["features.25", "features.26", "classifier"]),
    "vit_b_16": (224, ["encoder.layers.encoder_layer_11", "encoder.ln", "heads"]),
}
QUICK = ("mobilenet_v3_small", "shufflenet_v2_x0_5")
NO_MAP = ("vit_b_16", "swin_t")  # for Grad-CAM: they end in tokens


def near(found: Tensor, expected: Tensor) -> bool:
    """Whether both are equal but for rounding; random weights can make outputs of any size."""
    return bool((found - expected).abs().max() <= 1e-3 * expected.abs().max())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in FAMILIES],
)
def test_a_network_of_every_family_is_cut_trained_saved_and_loaded(
    name: str, tmp_path: Path
) -> None:
    """From weights for 1,000 classes to a file that predicts what the trained network does."""
    crop, trained = FAMILIES[name]
    state = {key: value.clone() for key, value in get_model(name).state_dict().items()}
    network = new_network(name, state, 3, seed=0).eval()
    images = torch.rand(3, 3, crop, crop)
    rates = resolve_learning_rates(network, dict.fromkeys(trained, 1e-3), "key")
    place = frozen_place(network, rates)
    assert place
    with torch.no_grad():
        logits = network(images)
        whole = section(network, 0, None)
        first = section(network, 0, place.position)
        values = first(images)
        assert torch.equal(whole(images), logits)
        assert torch.equal(section(network, place.position, None)(values.clone()), logits)
        assert near(fuse_frozen(first)(images), values)
    evidence = gradcam(whole, images[:1], 0)
    assert (evidence is None) == (name in NO_MAP)
    assert evidence is None or len(set(evidence.shape)) == 1 < len(evidence)

    partly = PartlyTrained(network, rates)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    dry_run(network, crop, "key", "crop")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    partly.trainable_part = section(network, place.position, None)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
    partly(values).pow(2).sum().backward()
    optimizer.step()
    moved = set()
    for key, value in network.state_dict().items():
        if not torch.equal(value, before[key]):
            moved.add(next(module for module in trained if key.startswith(f"{module}.")))
    assert moved == set(trained)

    header = HEADER.model_copy(update={"network": name})
    save_model(tmp_path / "model", TrainedModel(network, header))
    loaded = load_model(tmp_path / "model").network
    assert weights_digest(loaded.state_dict()) == weights_digest(network.state_dict())
    with torch.no_grad():  # memory formats differ, and with them last digits
        expected = network.eval()(images)
        assert near(loaded(images), expected)
        answers = TrainedModel(loaded, header).classifier(CPU)(images)
        assert near(split_answers(answers)[0], expected)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("inception_v3", "Kernel size can't be greater than actual input size"),
        pytest.param("vit_b_16", "Wrong image height! Expected 224 but", marks=pytest.mark.slow),
        pytest.param("maxvit_t", "is invalid for input of size", marks=pytest.mark.slow),
    ],
)
def test_images_of_a_size_that_a_network_cannot_take_are_refused(name: str, reason: str) -> None:
    options = {"init_weights": False} if name == "inception_v3" else {}  # it takes long
    network = get_model(name, **options).eval()
    message = rf"params\.yaml: key: .* images of 64 x 64 pixels \(train_crop\) on cpu: .*{reason}"
    with pytest.raises(UserError, match=message) as error:
        dry_run(network, 64, "key", "train_crop")
    assert "\n" not in str(error.value)


def test_published_files_of_densenet_load() -> None:
    """They have a dot more in some names."""
    state = get_model("densenet121").state_dict()
    pattern = r"(denselayer\d+\.(?:norm|conv))([12]\.)"
    old = {re.sub(pattern, r"\1.\2", name): value for name, value in state.items()}
    assert set(old) != set(state)
    network = pretrained_network("densenet121", old)
    assert weights_digest(network.state_dict()) == weights_digest(state)


@pytest.mark.parametrize(
    "network", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.slow)]
)
def test_published_files_with_auxiliary_heads_load(network: str) -> None:
    """And take what ImageNet's mean and std normalised, as the other networks do."""
    options = {"aux_logits": True, "transform_input": True, "init_weights": False}
    published = get_model(network, **options).eval()
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        logits = pretrained_network(network, published.state_dict())(images)
        assert torch.equal(logits, published(images))


@pytest.fixture(scope="module")
def state() -> State:
    """Of a backbone for 1,000 classes."""
    return dict(get_model(NETWORK).state_dict())


def test_the_new_head_depends_on_the_seed_alone(state: State) -> None:
    torch.manual_seed(1)
    first = new_network(NETWORK, state, 5, seed=3)
    torch.manual_seed(2)
    drawn = torch.rand(1)
    torch.manual_seed(2)
    again = new_network(NETWORK, state, 5, seed=3)
    assert torch.equal(torch.rand(1), drawn)  # nothing was drawn from the running state
    other = new_network(NETWORK, state, 5, seed=4)
    assert weights_digest(first.state_dict()) == weights_digest(again.state_dict())
    assert not torch.equal(first.get_parameter("fc.weight"), other.get_parameter("fc.weight"))
    for name, value in other.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, state[name])
    assert first.get_parameter("fc.weight").shape == (5, 1024)


def test_random_weights_depend_on_the_seed_alone() -> None:
    networks = [new_network(NETWORK, None, 5, seed=seed) for seed in (3, 3, 4)]
    digests = [weights_digest(network.state_dict()) for network in networks]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_any_floating_type_are_computed_in_float32(
    state: State, tmp_path: Path, suffix: str, dtype: torch.dtype
) -> None:
    given = {name: value.to(dtype) for name, value in state.items()}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(given, path)
    else:
        save_file({name: value.contiguous() for name, value in given.items()}, path)
    network = pretrained_network(NETWORK, read_backbone(path))
    found = network.get_parameter("conv1.0.weight")
    assert found.dtype == torch.float32
    assert torch.equal(found, given["conv1.0.weight"].float())
    assert not network.training


def test_weights_of_another_network_are_refused(state: State) -> None:
    with pytest.raises(UserError, match=r"of backbone\.path do not fit mnasnet0_5 .*\): backbone"):
        pretrained_network("mnasnet0_5", state)
    with pytest.raises(UserError, match="torchvision has no such network; try resnet18"):
        pretrained_network("resnet19", state)
    with pytest.raises(UserError, match="SqueezeNet does not end in a linear layer; try resnet18"):
        head_name(get_model("squeezenet1_1"))


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
def test_what_is_not_a_state_dict_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    expected = rf"weights: not a state dict of tensors \({message}\); check backbone\.path"
    with pytest.raises(UserError, match=expected):
        read_backbone(path)
    assert not (tmp_path / "executed").exists()


def test_damaged_files_of_weights_are_refused_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    torch.save({"a": torch.ones(200)}, path)
    pth = path.read_bytes()
    save_file({"a": torch.ones(200)}, path)
    tensors = path.read_bytes()
    contents = [b"", b"<html>", pth[:500], tensors[:500], tensors + b"more"]
    for content in [*contents, b"\xff" * 7 + tensors[7:]]:
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a state dict of tensors") as error:
            read_backbone(path)
        assert len(str(error.value)) < 300
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_prefix_of_data_parallel_is_removed(tmp_path: Path, legacy: bool) -> None:
    content = {"module.a": torch.ones(2)}
    torch.save(content, tmp_path / "weights", _use_new_zipfile_serialization=not legacy)
    assert list(read_backbone(tmp_path / "weights")) == ["a"]


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(2**40)}, tmp_path / "weights")
    with pytest.raises(UserError, match="a tensor is larger than what it stores"):
        read_backbone(tmp_path / "weights")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: str) -> None:
    odd = torch.tensor([1, float(value)], dtype=torch.half)
    save_file({"a": torch.ones(2), "b": odd}, tmp_path / "weights")
    with pytest.raises(UserError, match="values that are infinite or not numbers, in 'b'"):
        read_backbone(tmp_path / "weights")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"conv1.0.weight": torch.ones(24, 3, 1, 1)},
            r"conv1\.0\.weight is \[24, 3, 1, 1\] in place of \[24, 3, 3, 3\]",
        ),
        (
            {"conv1.0.weight": torch.ones(24, 3, 3, 3, dtype=torch.int32)},
            r"conv1\.0\.weight is torch\.int32",
        ),
        (
            {"conv1.0.weight": None, "conv1.1.bias": None},
            r"conv1\.0\.weight is missing; conv1\.1\.bias is missing",
        ),
        (
            {str(name): torch.ones(1) for name in range(5)},
            "0 is unknown to it; 1 .*; 2 .*; and 2 more",
        ),
        (
            {"fc.weight": torch.ones(0, 1024), "fc.bias": torch.ones(0)},
            r"fc\.weight is \[0, 1024\] .*; fc\.bias is \[0\] .*",
        ),
        ({"fc.weight": torch.tensor(1.0)}, r"fc\.weight is \[\] in place of \[1000, 1024\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    state: State, change: dict[str, Tensor | None], message: str
) -> None:
    merged = {**state, **change}
    given = {name: value for name, value in merged.items() if value is not None}
    expected = rf"weights of backbone\.path do not fit {NETWORK} \({message}\)"
    with pytest.raises(UserError, match=expected):
        pretrained_network(NETWORK, given)


def test_the_digest_is_of_names_types_shapes_and_values() -> None:
    first = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    digest = weights_digest(first)
    assert weights_digest(dict(reversed(first.items()))) == digest
    assert weights_digest(first | {"a": torch.zeros(3, 2).T.contiguous()}) == digest
    for other in (
        {"a": first["a"], "c": first["b"]},
        first | {"a": torch.zeros(3, 2)},
        first | {"a": torch.zeros(2, 3, dtype=torch.int32)},
        first | {"a": torch.full((2, 3), -0.0)},
    ):
        assert weights_digest(other) != digest


def test_a_dry_run_leaves_the_network_as_it_was() -> None:
    network = PartlyTrained(small_network(), BLOCK_AND_HEAD)
    before = weights_digest(network.whole.state_dict())
    dry_run(network.whole, 16, "key", "crop")
    assert weights_digest(network.whole.state_dict()) == before
    assert all(parameter.grad is None for parameter in network.whole.parameters())


def test_imagenet_classes_have_names() -> None:
    assert category_names("resnet18", 1000)[985] == "daisy"
    assert category_names("resnet18", 3) == ["class 1", "class 2", "class 3"]
