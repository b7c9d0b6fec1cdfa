"""Grad-CAM against its closed form, against Captum, and where there is no evidence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, fx, nn
from torchvision.models import get_model

from pipeline.explain.gradcam import gradcam, heat
from pipeline.models.files import load_model
from pipeline.models.freezing import fuse_frozen, section


def whole(network: nn.Module) -> fx.GraphModule:
    """The network as a graph, from the pixels to the logits."""
    return section(network, 0, None)


def closed_form(
    network: nn.Module, module: str, pixels: Tensor, class_id: int
) -> tuple[Tensor, float]:
    """Grad-CAM of a network in which average pooling and one linear layer follow ``module``.

    That is relu(sum_k w_k A_k) with the layer's weights w, divided by the number of places.

    Returns:
        The evidence, float32 [side, side], and the largest sum of the absolute values of its terms,
        to which rounding is in proportion.
    """
    maps: list[Tensor] = []
    last = network.get_submodule(module)
    hook = last.register_forward_hook(lambda module, inputs, output: maps.append(output[0]))
    with torch.no_grad():
        network(pixels)
        hook.remove()
        places = maps[0][0].numel()
        terms = network.get_parameter("fc.weight")[class_id][:, None, None] * maps[0] / places
        return terms.sum(0).relu(), terms.abs().sum(0).max().item()


def assert_closed_form(network: nn.Module, module: str) -> None:
    positive = 0
    for pixels in torch.rand(2, 1, 3, 96, 96):
        for class_id in (0, 1):
            expected, scale = closed_form(network, module, pixels, class_id)
            for graph in (whole(network), fuse_frozen(whole(network))):
                found = gradcam(graph, pixels, class_id)
                assert found is not None
                assert found.shape == (3, 3)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * scale)
            positive += int(expected.any())
    assert positive


def test_it_is_the_closed_form_where_pooling_and_one_linear_layer_follow() -> None:
    torch.manual_seed(0)
    assert_closed_form(get_model("resnet18", num_classes=2).eval(), "layer4")


@pytest.mark.parametrize("name", ["feature_extraction", "fine_tuning"])
def test_it_is_the_closed_form_of_trained_models(project: Path, name: str) -> None:
    """The whole network is explained, from the pixels, however little of it was trained."""
    torch.manual_seed(0)
    network = load_model(project / f"models/{name}.safetensors").network
    assert_closed_form(network, "conv5")


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer4"), ("alexnet", "avgpool")])
def test_captum_finds_the_same(name: str, layer: str) -> None:
    torch.manual_seed(0)
    network = get_model(name, num_classes=3).eval()
    pixels = torch.rand(1, 3, 224, 224)
    captum = LayerGradCam(network, network.get_submodule(layer))
    for class_id in range(3):
        expected = captum.attribute(pixels, class_id, relu_attributions=True)[0, 0].detach()
        torch.testing.assert_close(gradcam(whole(network), pixels, class_id), expected)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.slow
def test_two_threads_give_the_same_bits_each_time() -> None:
    """Also for a single small image.

    Its last feature map comes before convolutions whose gradient torch sums in a changing order.
    """
    torch.manual_seed(0)
    network = fuse_frozen(whole(get_model("resnet18", num_classes=2)))
    pixels = torch.rand(1, 3, 32, 32)
    first = gradcam(network, pixels, 1)
    assert first is not None
    for _ in range(49):
        again = gradcam(network, pixels, 1)
        assert again is not None
        assert torch.equal(again, first)


def test_evidence_is_enlarged_to_the_image_and_1_at_its_strongest() -> None:
    large = heat(torch.tensor([[0.0, 0.0], [0.0, 3.0]]), 64)
    assert (large.shape, large.dtype, large.max(), large.min()) == ((64, 64), np.float32, 1, 0)
    assert (large[48:, 48:] == 1).all()
    assert not large[:16].any()


def test_where_everything_is_evidence_against_a_class_there_is_no_heat() -> None:
    network = get_model("resnet18", num_classes=2).eval()
    with torch.no_grad():
        network.fc.weight.abs_().neg_()  # features, after a ReLU, are not negative
    evidence = gradcam(whole(network), torch.rand(1, 3, 64, 64), 1)
    assert evidence is not None
    assert torch.equal(evidence, torch.zeros(2, 2))
    assert np.array_equal(heat(evidence, 64), np.zeros((64, 64), np.float32))


def test_a_network_without_a_feature_map_has_no_evidence() -> None:
    network = get_model("vit_b_32", num_classes=2, image_size=32).eval()
    evidence = gradcam(whole(network), torch.rand(1, 3, 32, 32), 1)
    assert evidence is None
    assert np.array_equal(heat(evidence, 64), np.zeros((64, 64), np.float32))
