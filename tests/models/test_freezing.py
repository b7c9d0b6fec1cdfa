"""Only what is trained moves, and a network in two parts computes the same bits as the whole."""

from collections.abc import Collection

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from pipeline.base.errors import UserError
from pipeline.models import freezing
from pipeline.models.freezing import (
    PartlyTrained,
    frozen_place,
    fuse_frozen,
    resolve_learning_rates,
    section,
    values_at,
)
from pipeline.models.networks import new_network
from pipeline.params import load_params
from tests.conftest import NETWORK
from tests.small import BLOCK_AND_HEAD, small_network
from tools.sandbox import PROJECT

LAYERS = ("layer1", "layer2", "layer3", "layer4", "fc")


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    return get_model("resnet18", num_classes=5).eval()


@pytest.mark.parametrize(
    ("approach", "trainable"), [("feature_extraction", 52_326), ("fine_tuning", 8_446_054)]
)
def test_parameter_counts_are_the_published_ones(approach: str, trainable: int) -> None:
    params = load_params(PROJECT / "params.yaml")
    model = new_network(params.backbone.network, None, 102, params.train.seed)
    network = PartlyTrained(model, params.approaches[approach].learning_rates)
    assert network.count_parameters() == {"total": 11_228_838, "trainable": trainable}


def test_learning_rates_are_of_modules_and_head_is_the_last_linear_layer(
    resnet18: nn.Module,
) -> None:
    rates = {"layer4": 1e-4, "head": 1e-3}
    assert resolve_learning_rates(resnet18, rates, "key") == {"layer4": 1e-4, "fc": 1e-3}
    parts = {"layer3.1": 1e-5, "layer4.0.bn2": 1e-4, "fc": 1e-3}
    assert resolve_learning_rates(resnet18, parts, "key") == parts


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
def test_modules_that_cannot_be_trained_are_refused(
    resnet18: nn.Module, rates: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=rf"^params\.yaml: {message}"):
        resolve_learning_rates(resnet18, rates, "key")


def modules_in_training(network: PartlyTrained) -> set[str]:
    return {name for name, module in network.whole.named_modules() if name and module.training}


def test_frozen_modules_stay_in_eval_mode_whoever_calls_train() -> None:
    network = PartlyTrained(small_network(), BLOCK_AND_HEAD)
    network.trainable_part = section(network.whole, 3, None)
    trained = {"block2", "block2.0", "block2.1", "block2.2", "fc"}
    assert modules_in_training(network) == trained
    assert not modules_in_training(network.eval())
    for _ in range(2):
        assert modules_in_training(network.train()) == trained
    outer = nn.Sequential(network)
    outer.eval()
    assert not modules_in_training(network)
    outer.train()
    assert modules_in_training(network) == trained


def test_only_the_trained_modules_have_gradients() -> None:
    network = PartlyTrained(small_network(), BLOCK_AND_HEAD)
    named = dict(network.whole.named_parameters())
    trained = {name for name, parameter in named.items() if parameter.requires_grad}
    assert trained == {name for name in named if name.startswith(("block2.", "fc."))}
    buffers = {"running_mean", "running_var", "num_batches_tracked"}
    assert set(network.trained_state()) == trained | {f"block2.1.{name}" for name in buffers}


@pytest.mark.parametrize(
    ("trained", "module", "values"),
    [
        (["fc"], "avgpool", 512),
        (["layer4", "fc"], "layer3", 256 * 14 * 14),
        (["layer4.1", "fc"], "layer4", 512 * 7 * 7),
        (["layer3.1.bn2", "fc"], "layer3", 256 * 14 * 14),  # a shortcut leads past all of layer3.1
        (LAYERS, "maxpool", 64 * 56 * 56),
        (["layer1", "fc"], "maxpool", 64 * 56 * 56),  # what follows layer1 is frozen, but changes
        (["conv1", *LAYERS], None, 0),
        (["bn1", *LAYERS], None, 0),  # which fuse_frozen folds into conv1
    ],
)
def test_the_frozen_beginning_of_resnet18_ends_before_what_is_trained(
    resnet18: nn.Module, trained: Collection[str], module: str | None, values: int
) -> None:
    place = frozen_place(resnet18, trained)
    if module is None:
        assert place is None
    else:
        assert place
        assert place.module == module
        assert values_at(resnet18, place, side=224) == values


@pytest.mark.parametrize(
    "trained",
    [
        "stage2.1.branch2",  # before it torch.chunk gives a tuple, where nothing can be cut
        "conv5.1",  # a BatchNorm, which fuse_frozen folds into the layer before it
        "fc",
    ],
)
def test_parts_in_a_row_compute_the_same_bits_as_the_whole(trained: str) -> None:
    """Fused or not, with outputs that are stored in between or not."""
    torch.manual_seed(0)
    network = new_network(NETWORK, None, 3, seed=0).eval()
    images = torch.rand(2, 3, 32, 32)

    def run(part: nn.Module, inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            return part(inputs.clone())

    logits = run(network, images)
    fused = run(fuse_frozen(section(network, 0, None)), images)
    assert torch.equal(run(section(network, 0, None), images), logits)
    torch.testing.assert_close(fused, logits)
    place = frozen_place(network, [trained, "fc"])
    assert place
    first = section(network, 0, place.position)
    rest = section(network, place.position, None)
    assert torch.equal(run(rest, run(first, images)), logits)
    value = run(fuse_frozen(first), images.to(memory_format=torch.channels_last))
    stored = torch.from_numpy(value.numpy().copy(order="C"))
    again = stored.to(memory_format=torch.channels_last) if stored.ndim == 4 else stored
    for between in (value, again):
        assert torch.equal(run(fuse_frozen(rest), between), fused)


def test_a_part_shares_its_modules_with_the_network() -> None:
    network = small_network()
    place = frozen_place(network, ["fc"])
    assert place
    rest = section(network, place.position, None)
    with torch.no_grad():
        network.get_parameter("fc.bias").fill_(7)
    assert rest(torch.zeros(1, 8)).tolist() == [[7.0] * 3]


class Branches(nn.Module):
    """A frozen layer beside a trained one, and a layer of no use before them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.left = nn.Conv2d(4, 4, 1)
        self.right = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        both = self.left(first) + self.right(first)
        return self.fc(both.mean((2, 3)))


def test_a_value_that_is_used_again_later_is_no_place_to_cut() -> None:
    network = Branches().eval()
    for trained in (["right", "fc"], ["left", "fc"]):
        place = frozen_place(network, trained)
        assert place
        assert place.module == "first"
    place = frozen_place(network, ["fc"])
    assert place
    assert values_at(network.requires_grad_(False), place, side=8) == 4


def test_fusing_leaves_the_network_as_it_was() -> None:
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fused = fuse_frozen(section(network, 0, None))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_several_processes_train_batch_norm_on_cuda_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "is_shared", lambda: True)
    message = r"params\.yaml: approaches\.x: trains BatchNorm \(block2\.1\), for which several"
    with pytest.raises(UserError, match=message):
        PartlyTrained(small_network(), BLOCK_AND_HEAD, "approaches.x")
    PartlyTrained(small_network(), {"fc": 1e-3}, "approaches.x")
