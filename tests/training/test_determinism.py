"""On CUDA too the same bytes: training computes nothing that has no deterministic algorithm there.

Without a GPU this is all that can be shown.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import get_model

from pipeline.base.cache import Cache
from pipeline.data.views import DevicePixels, random_crop
from pipeline.explain.gradcam import gradcam, heat
from pipeline.models.freezing import section
from pipeline.training.evaluation import scores, top_classes
from pipeline.training.fit import fit
from tests.small import COUNTS, CPU, SmallData, small_recipe, small_training, write_small_data

# How operations begin that torch.use_deterministic_algorithms refuses on CUDA or whose result may
# differ there, as its documentation lists them; of some it is the gradient.
OPERATIONS = (
    "_embedding_bag",
    "bincount",
    "histc",
    "kthvalue",
    "max_unpool",
    "median",
    "nanmedian",
    "nll_loss2d",
    "put",
    "scatter_reduce",
)
GRADIENTS = (
    "_adaptive_avg_pool",
    "_ctc_loss",
    "adaptive_max_pool",
    "avg_pool3d",
    "fractional_max_pool",
    "grid_sampler",
    "max_pool3d",
    "reflection_pad",
    "upsample",
)


class Recorded(TorchDispatchMode):
    """Writes down the operations that torch computes, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))

    def not_deterministic(self) -> list[str]:
        gradients = {name for name in self.names if name.endswith("_backward")}
        found = {name for name in self.names if name.startswith(OPERATIONS)}
        return sorted(found | {name for name in gradients if name.startswith(GRADIENTS)})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return write_small_data(tmp_path_factory.mktemp("data"))


LAYERS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")


@pytest.mark.parametrize("trained", [("fc",), ("layer4", "fc"), LAYERS])
def test_no_operation_of_training_evaluation_and_explanation_is_one_of_them(
    images: SmallData, tmp_path: Path, trained: tuple[str, ...]
) -> None:
    recipe = small_recipe(dict.fromkeys(trained, 1e-3), epochs=1, label_smoothing=0.1)
    model = get_model("resnet18", num_classes=3).eval()
    cache = Cache(tmp_path, 10**9)
    pixels = images.pixels("train", cache)
    with Recorded() as recorded:
        training = small_training(images, recipe, cache, model=model)
        list(fit(training.network, training.data, recipe, CPU))
        shapes = [pixels.image(row).shape for row in range(4)]
        crops = [random_crop(0, 1, row, h, w, 16, 0.5) for row, (h, w, _) in enumerate(shapes)]
        DevicePixels(pixels, CPU).cut(np.arange(4), crops)
        views = training.data.train.views.batch(np.arange(COUNTS["train"]), epoch=1)
        logits = model(views).detach()
        scores(logits, training.data.train.views.pixels.split.labels)
        top_classes(logits[0], list("abc"))
        evidence = gradcam(section(model, 0, None), torch.rand(1, 3, 64, 64), 0)
        assert isinstance(evidence, Tensor)
        heat(evidence, 64)
    assert ("native_batch_norm_backward" in recorded.names) == (trained != ("fc",))
    assert {"_log_softmax_backward_data", "addmm", "convolution", "index"} <= recorded.names
    assert not recorded.not_deterministic()


def test_such_an_operation_would_be_found() -> None:
    with Recorded() as recorded:
        pixels = torch.rand(1, 3, 8, 8, requires_grad=True)
        torch.nn.functional.interpolate(pixels, (16, 16), mode="bilinear").sum().backward()
        torch.nn.AdaptiveAvgPool2d(3)(pixels).sum().backward()
        pixels.median()
    assert recorded.not_deterministic() == [
        "_adaptive_avg_pool2d_backward",
        "median",
        "upsample_bilinear2d_backward",
    ]
