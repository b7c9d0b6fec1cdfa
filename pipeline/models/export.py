"""Trained models for use elsewhere: ONNX files, held against the model that they come from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from pipeline.base.errors import UserError

TOLERANCE = 1e-3  # of a logit, for sums are taken in another order


def export_onnx(path: Path, model: nn.Module, header: Mapping[str, Any]) -> None:
    """Write ``model`` as one ONNX file: ``pixels`` float32 [n, 3, crop, crop] to ``logits`` float32 [n, classes].

    Args:
        model: in eval mode, on the CPU.
        header: of :func:`pipeline.models.storage.load_model`; its classes and transforms become metadata (JSON).
    """
    crop = header["transforms"]["crop"]
    exported = torch.onnx.export(
        model,
        (torch.zeros(2, 3, crop, crop),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        input_names=["pixels"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    assert exported is not None
    proto = exported.model_proto
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]  # paths of this machine, among others
    onnx.helper.set_model_props(proto, {key: json.dumps(header[key]) for key in ("classes", "transforms")})
    path.write_bytes(proto.SerializeToString(deterministic=True))


def check_onnx(path: Path, pixels: np.ndarray, logits: Tensor) -> float:
    """Hold the file against the ``logits`` that the model makes of ``pixels``; the largest difference.

    Raises:
        UserError: a difference is above the tolerance, or the five most probable classes are others.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(["logits"], {"pixels": pixels})[0])
    difference = (found - logits).abs().max().item()
    top = min(5, logits.shape[1])
    if difference > TOLERANCE or not torch.equal(found.topk(top).indices, logits.topk(top).indices):
        raise UserError(f"{path.name}: onnxruntime computes other logits than PyTorch, by up to {difference:.2g}")
    return difference
