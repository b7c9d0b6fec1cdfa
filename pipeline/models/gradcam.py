"""Grad-CAM: which places of an image speak for a class (Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.functional import interpolate


class _Watched(fx.Interpreter):
    """Runs a network and remembers the last value with several places for an image on which all the rest depends."""

    last: Tensor

    def run_node(self, n: fx.Node) -> Any:
        needed = [value for value in self.env.values() if isinstance(value, Tensor | tuple)]  # here and later
        if len(needed) == 1 and isinstance(needed[0], Tensor) and sum(side > 1 for side in needed[0].shape[1:]) > 1:
            self.last = needed[0]
        return super().run_node(n)


def gradcam(network: nn.Module, pixels: Tensor, label: int) -> Tensor | None:
    """The evidence for a class at every place of the network's last feature map, relu(sum_k w_k A_k).

    A_k is channel k of the map, w_k the mean over it of the gradient of the class's logit. Where average pooling and
    one linear layer follow the map, w_k is exactly that layer's weight, divided by the number of places.

    Args:
        network: from pixels to logits, by :func:`pipeline.models.sections.section`, in eval mode.
        pixels: one image, float32 [1, 3, crop, crop], on the network's device.
        label: of the class.

    Returns:
        float32 [side, side] on the CPU, not negative, all zero where nothing speaks for the class; None where the
        network has no feature map there (vision transformers).
    """
    watched = _Watched(network)
    # Twice: a single small image meets a convolution of torch whose threads add up a gradient in an order of chance.
    pair = pixels.detach().repeat(2, 1, 1, 1).requires_grad_()
    with torch.enable_grad():
        logits = watched.run(pair)
        features = watched.last
        if features.ndim != 4 or features.shape[2] != features.shape[3]:
            return None
        (gradient,) = torch.autograd.grad(logits[0, label], features)
    weights = gradient[0].mean((1, 2), keepdim=True)
    return (weights * features[0].detach()).sum(0).relu().cpu()


def heat(evidence: Tensor | None, side: int) -> np.ndarray:
    """What :func:`gradcam` gave, for an image of ``side`` pixels: float32 [side, side], 1 at its largest, or all zero.

    Enlarged without gradient, for bilinear enlarging has no deterministic one on CUDA.
    """
    if evidence is None or not evidence.any():
        return np.zeros((side, side), np.float32)
    large = interpolate(evidence[None, None], (side, side), mode="bilinear")[0, 0]
    return (large / large.max()).numpy()
