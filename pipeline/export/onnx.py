"""Trained models as ONNX files, compared with the models that they come from."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.models.files import Header

TOLERANCE = 1e-3  # of a logit: onnxruntime sums in another order


class _WithProbabilities(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(pixels)
        return logits, logits.softmax(1)


def export_onnx(path: Path, model: nn.Module, header: Header, opset: int = 18) -> None:
    """Write ``model`` as one ONNX file, of the oldest form (IR) that its operators allow.

    It maps ``pixels``, float32 [n, 3, crop, crop], to ``logits`` (calibrated) and
    ``probabilities`` (their softmax), both float32 [n, classes]. Its metadata are two JSON values:
    ``classes``, a list of names, and ``transforms`` with resize, crop (pixels), mean, std and fit.

    Args:
        model: in eval mode, on the CPU.
        header: of the model's file.
        opset: version of the operators; PyTorch writes none before 18, which onnxruntime knows
            since 1.14.
    """
    exported = torch.onnx.export(
        _WithProbabilities(model).eval(),
        (torch.zeros(2, 3, header.crop, header.crop),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        input_names=["pixels"],
        output_names=["logits", "probabilities"],
        external_data=False,
        verbose=False,
        opset_version=opset,
    )
    assert exported is not None
    proto = exported.model_proto
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    _remove_notes(proto.graph)
    transforms = {
        "resize": header.resize,
        "crop": header.crop,
        "mean": header.mean,
        "std": header.std,
        "fit": header.fit,
    }
    metadata = {"classes": json.dumps(header.classes), "transforms": json.dumps(transforms)}
    onnx.helper.set_model_props(proto, metadata)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _remove_notes(graph: onnx.GraphProto) -> None:
    """Remove the exporter's own metadata: paths of this machine, among others."""
    values = [*graph.input, *graph.output, *graph.value_info]
    for part in (graph, *graph.node, *values, *graph.initializer):
        del part.metadata_props[:]


def check_onnx(path: Path, pixels: np.ndarray, logits: Tensor) -> float:
    """Compare an ONNX file with the model that it comes from.

    Args:
        pixels: float32 [n, 3, crop, crop].
        logits: of the model for them, float32 [n, classes], on the CPU.

    Returns:
        The largest difference of a logit.

    Raises:
        UserError: a difference is above the tolerance, or the five most probable classes differ.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(["logits"], {"pixels": pixels})[0])
    difference = (found - logits).abs().max().item()
    count = min(5, logits.shape[1])
    same_classes = torch.equal(found.topk(count).indices, logits.topk(count).indices)
    if difference > TOLERANCE or not same_classes:
        raise UserError(
            f"{path.name}: onnxruntime computes other logits than PyTorch, by up to "
            f"{difference:.2g}; remove the approach from export in params.yaml"
        )
    return difference
