"""Grad-CAM: which places of an image are evidence for a class.

Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.functional import interpolate


class _Watched(fx.Interpreter):
    """Runs a network and remembers its last feature map.

    That is the last value with several places for each image on which all the rest depends.
    """

    last: Tensor

    def run_node(self, n: fx.Node) -> Any:
        # Values that this node or a later one needs; fx.Interpreter deletes the others.
        needed = [value for value in self.env.values() if isinstance(value, Tensor | tuple)]
        if len(needed) == 1 and isinstance(needed[0], Tensor):
            wide_sides = sum(side > 1 for side in needed[0].shape[1:])
            # ShuffleNet views channels as groups, in a fifth dimension.
            if wide_sides > 1 and needed[0].ndim <= 4:
                self.last = needed[0]
        return super().run_node(n)


def gradcam(network: nn.Module, pixels: Tensor, class_id: int) -> Tensor | None:
    """The evidence for a class at every place of the last feature map, relu(sum_k w_k A_k).

    A_k is channel k of the map, w_k the mean over it of the gradient of the class's logit. Where
    average pooling and one linear layer follow the map, w_k is exactly that layer's weight, divided
    by the number of places.

    Args:
        network: from pixels to logits, a graph that :class:`torch.fx.Interpreter` can run, in eval
            mode.
        pixels: one image, float32 [1, 3, crop, crop], on the network's device.
        class_id: label of the class.

    Returns:
        float32 [side, side] on the CPU, not negative, all zero where nothing is evidence for the
        class; None where the network has no feature map (vision transformers).
    """
    watched = _Watched(network)
    # The image twice: for a single small one, threads of a convolution of torch add up a gradient
    # in an order that changes from run to run.
    pair = pixels.detach().repeat(2, 1, 1, 1).requires_grad_()
    with torch.enable_grad():
        logits = watched.run(pair)
        features = watched.last
        if features.ndim != 4 or features.shape[2] != features.shape[3]:
            return None
        (gradient,) = torch.autograd.grad(logits[0, class_id], features)
    weights = gradient[0].mean((1, 2), keepdim=True)
    return (weights * features[0].detach()).sum(0).relu().cpu()


def heat(evidence: Tensor | None, side: int) -> np.ndarray:
    """What :func:`gradcam` returned, enlarged to an image of ``side`` pixels.

    Enlarged without a gradient, because bilinear enlarging has no deterministic one on CUDA.

    Returns:
        float32 [side, side], 1 at its largest, or all zero.
    """
    if evidence is None or not evidence.any():
        return np.zeros((side, side), np.float32)
    large = interpolate(evidence[None, None], (side, side), mode="bilinear")[0, 0]
    return (large / large.max()).numpy()
