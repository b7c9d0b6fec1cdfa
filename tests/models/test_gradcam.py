"""Grad-CAM against its closed form, against Captum, and where it has nothing to say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torchvision.models import get_model

from pipeline.models.gradcam import gradcam, heat
from pipeline.models.sections import for_inference, section
from pipeline.models.storage import load_model


def closed_form(model: nn.Module, pixels: Tensor, label: int) -> tuple[Tensor, float]:
    """Of a ResNet, which ends in average pooling and one linear layer: relu(sum_k w_k A_k), divided by the places.

    And the largest sum of the absolute values of those terms, to which rounding is in proportion.
    """
    maps: list[Tensor] = []
    hook = model.get_submodule("layer4").register_forward_hook(lambda module, inputs, output: maps.append(output[0]))
    with torch.no_grad():
        model(pixels)
        hook.remove()
        weighted = model.get_parameter("fc.weight")[label][:, None, None] * maps[0]
        return weighted.sum(0).relu() / maps[0][0].numel(), weighted.abs().sum(0).max().item() / maps[0][0].numel()


@pytest.mark.parametrize("name", ["random weights", "feature_extraction", "fine_tuning"])
def test_it_is_the_closed_form_of_pooling_and_one_linear_layer(project: Path, name: str) -> None:
    """Also for models that were trained from stored features: the whole network is explained, from the pixels."""
    torch.manual_seed(0)
    random = name == "random weights"
    model = (
        get_model("resnet18", num_classes=2).eval() if random else load_model(project / f"models/{name}.safetensors")[0]
    )
    pixels, positive = torch.rand(2, 3, 96, 96), 0
    for image in pixels:
        for label in (0, 1):
            expected, scale = closed_form(model, image[None], label)
            for network in (section(model), for_inference(section(model))):
                found = gradcam(network, image[None], label)
                assert found is not None
                assert found.shape == (3, 3)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * scale)
            positive += int(expected.any())
    assert positive


@pytest.mark.parametrize(("network", "layer"), [("resnet18", "layer4"), ("alexnet", "avgpool")])
def test_captum_finds_the_same(network: str, layer: str) -> None:
    torch.manual_seed(0)
    model, pixels = get_model(network, num_classes=3).eval(), torch.rand(1, 3, 224, 224)
    for label in range(3):
        expected = LayerGradCam(model, model.get_submodule(layer)).attribute(pixels, label, relu_attributions=True)
        torch.testing.assert_close(gradcam(section(model), pixels, label), expected[0, 0].detach())


@pytest.mark.usefixtures("two_threads")
def test_threads_give_the_same_bits_each_time() -> None:
    """A single small image whose last map lies before convolutions: torch gave it others each time on two threads."""
    torch.manual_seed(0)
    network, pixels = for_inference(section(get_model("resnet18", num_classes=2))), torch.rand(1, 3, 32, 32)
    found = [gradcam(network, pixels, 1) for _ in range(50)]
    assert all(evidence is not None and torch.equal(evidence, found[0]) for evidence in found)  # type: ignore[arg-type]


def test_evidence_is_enlarged_to_the_image_and_1_at_its_strongest() -> None:
    large = heat(torch.tensor([[0.0, 0.0], [0.0, 3.0]]), 64)
    assert (large.shape, large.dtype, large.max(), large.min()) == ((64, 64), np.float32, 1, 0)
    assert (large[48:, 48:] == 1).all()
    assert not large[:16].any()


def test_where_all_speaks_against_a_class_there_is_no_evidence_and_no_noise() -> None:
    model = get_model("resnet18", num_classes=2).eval()
    with torch.no_grad():
        model.fc.weight.abs_().neg_()  # features, behind a ReLU, are not negative
    found = gradcam(section(model), torch.rand(1, 3, 64, 64), 1)
    assert found is not None
    assert torch.equal(found, torch.zeros(2, 2))
    for evidence in (found, None):
        assert np.array_equal(heat(evidence, 64), np.zeros((64, 64), np.float32))
