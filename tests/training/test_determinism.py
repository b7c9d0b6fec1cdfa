"""On CUDA too the same bytes: nothing that training computes is on torch's list of what has no deterministic algorithm.

Without a GPU this is all that can be shown.
"""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.gradcam import gradcam, heat
from pipeline.models.networks import new_network
from pipeline.models.sections import for_inference, section, unfreeze
from pipeline.params import load_params
from pipeline.training.evaluation import scores, top_classes
from pipeline.training.fit import fit
from tools.sandbox import PROJECT

# Names of torch's list, and how the operations behind them begin that it means on CUDA; empty: on other devices only.
OPERATIONS: dict[str, tuple[str, ...]] = {
    "nn.AvgPool3d": ("avg_pool3d_backward",),
    "nn.AdaptiveAvgPool2d": ("_adaptive_avg_pool2d_backward",),
    "nn.AdaptiveAvgPool3d": ("_adaptive_avg_pool3d_backward",),
    "nn.AdaptiveMaxPool2d": ("adaptive_max_pool2d_backward",),
    "nn.FractionalMaxPool2d": ("fractional_max_pool2d_backward",),
    "nn.FractionalMaxPool3d": ("fractional_max_pool3d_backward",),
    "nn.MaxUnpool1d": ("max_unpool",),
    "nn.MaxUnpool2d": ("max_unpool",),
    "nn.MaxUnpool3d": ("max_unpool",),
    "nn.functional.interpolate": (
        "upsample_linear1d_b",
        "upsample_bilinear2d_b",
        "upsample_bicubic2d_b",
        "upsample_tri",
    ),
    "nn.ReflectionPad1d": ("reflection_pad1d_backward",),
    "nn.ReflectionPad2d": ("reflection_pad2d_backward",),
    "nn.ReflectionPad3d": ("reflection_pad3d_backward",),
    "nn.NLLLoss": ("nll_loss2d",),  # of images of labels: aten/src/ATen/native/cuda/NLLLoss2d.cu
    "nn.CTCLoss": ("_ctc_loss_backward",),
    "nn.EmbeddingBag": ("_embedding_bag",),
    "Tensor.put_": ("put",),
    "histc": ("histc",),
    "bincount": ("bincount",),
    "median": ("median", "nanmedian"),
    "nn.functional.grid_sample": ("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    "Tensor.scatter_reduce": ("scatter_reduce",),
    "Tensor.index_put": (),
    "Tensor.index_reduce": (),
    "kthvalue": (),
    "nn.Embedding": (),
    "nn.MaxPool2d": (),
    "nn.MaxPool3d": (),
    "Tensor.resize_": (),
}


class Recorded(TorchDispatchMode):
    """Writes down the operations that torch computes, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def banned(names: set[str]) -> list[str]:
    beginnings = tuple(beginning for every in OPERATIONS.values() for beginning in every)
    return sorted(name for name in names if name.startswith(beginnings))


def test_the_list_is_torchs() -> None:
    text = torch.use_deterministic_algorithms.__doc__ or ""
    text = text[text.index("will throw a\n", text.index("normally-nondeterministic operations will throw")) :]
    names = re.findall(r":(?:class|func):`torch\.([\w.]+)`", text[: text.index("In addition")])
    assert set(names) == OPERATIONS.keys()


@pytest.mark.parametrize("name", ["feature_extraction", "fine_tuning", "all layers"])
def test_no_operation_of_training_evaluation_and_explanation_is_on_it(name: str) -> None:
    params, cpu = load_params(PROJECT / "params.yaml"), torch.device("cpu")
    model = new_network(params.backbone.network, None, 7, seed=0)
    layers = dict.fromkeys(("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"), 1e-3)
    rates = layers if name == "all layers" else params.approaches[name].learning_rates
    start = "pixels" if name == "all layers" else params.approaches[name].input
    labels = np.arange(8) % 7
    with Recorded() as recorded:
        images = torch.rand(8, 3, 64, 64)
        features = images if start == "pixels" else for_inference(section(model, to=start))(images)
        rates = unfreeze(model, rates, "learning_rates")
        split = (lambda rows, epoch: features[torch.from_numpy(rows)], labels)
        train = params.train.model_copy(update={"epochs": 1, "batch_size": 4})
        list(fit(model, section(model, after=start), rates, split, split, train, cpu))
        logits = model.eval()(images).detach()
        scores(logits, labels)
        top_classes(logits[0], list("abcdefg"))
        evidence = gradcam(section(model), images[:1], 0)
        assert isinstance(evidence, Tensor)
        heat(evidence, 64)
    assert ("convolution_backward" in recorded.names) == (name != "feature_extraction")
    assert {"nll_loss_forward", "nll_loss_backward", "addmm", "mm"} <= recorded.names
    assert not banned(recorded.names)


def test_an_operation_that_is_on_it_would_be_found() -> None:
    with Recorded() as recorded:
        pixels = torch.rand(1, 3, 8, 8, requires_grad=True)
        torch.nn.functional.interpolate(pixels, (16, 16), mode="bilinear").sum().backward()
        torch.nn.AdaptiveAvgPool2d(3)(pixels).sum().backward()
    assert banned(recorded.names) == ["_adaptive_avg_pool2d_backward", "upsample_bilinear2d_backward"]
