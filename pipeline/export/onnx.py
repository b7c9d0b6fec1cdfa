"""Trained models as ONNX files, compared with the models that they come from."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.models.files import TrainedModel
from pipeline.models.known import Classifier, split_answers

TOLERANCE = 1e-3  # of a logit: onnxruntime sums in another order


class _Outputs(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, similar = split_answers(self.classifier(pixels))
        return logits, logits.softmax(1), similar


def export_onnx(path: Path, model: TrainedModel, opset: int = 18) -> None:
    """Write a model as one ONNX file, of the oldest form (IR) that its operators allow.

    It maps ``pixels``, float32 [n, 3, crop, crop], to ``logits`` (calibrated), ``probabilities``
    (their softmax), both float32 [n, classes], and ``similarity`` to the training images, float32
    [n]. Its metadata are three JSON values: ``classes``, a list of names; ``transforms`` with
    resize, crop (pixels), mean, std and fit; and ``limits`` with sure_from and known_from.

    Args:
        opset: version of the operators; PyTorch writes none before 18, which onnxruntime knows
            since 1.14.
    """
    header = model.header
    exported = torch.onnx.export(
        _Outputs(model.exportable()).eval(),
        (torch.zeros(2, 3, header.crop, header.crop),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        input_names=["pixels"],
        output_names=["logits", "probabilities", "similarity"],
        external_data=False,
        verbose=False,
        opset_version=opset,
    )
    assert exported is not None
    proto = exported.model_proto
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    _remove_notes(proto.graph)
    keys = {
        "transforms": ("resize", "crop", "mean", "std", "fit"),
        "limits": ("sure_from", "known_from"),
    }
    metadata = {"classes": json.dumps(header.classes)} | {
        name: json.dumps({key: getattr(header, key) for key in of}) for name, of in keys.items()
    }
    onnx.helper.set_model_props(proto, metadata)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _remove_notes(graph: onnx.GraphProto) -> None:
    """Remove the exporter's own metadata: paths of this machine, among others."""
    values = [*graph.input, *graph.output, *graph.value_info]
    for part in (graph, *graph.node, *values, *graph.initializer):
        del part.metadata_props[:]


def check_onnx(path: Path, pixels: np.ndarray, answers: Tensor) -> float:
    """Compare an ONNX file with the model that it comes from.

    Args:
        pixels: float32 [n, 3, crop, crop].
        answers: of the model's :class:`Classifier` for them, on the CPU.

    Returns:
        The largest difference of a logit.

    Raises:
        UserError: a difference is above the tolerance, or the five most probable classes differ.
    """
    logits, similar = split_answers(answers)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(["logits", "similarity"], {"pixels": pixels})
    found, found_similar = map(torch.from_numpy, outputs)
    difference = (found - logits).abs().max().item()
    count = min(5, logits.shape[1])
    same_classes = torch.equal(found.topk(count).indices, logits.topk(count).indices)
    same_similarity = torch.allclose(found_similar, similar, rtol=0, atol=TOLERANCE)
    if difference > TOLERANCE or not same_classes or not same_similarity:
        raise UserError(
            f"{path.name}: onnxruntime computes other logits than PyTorch, by up to "
            f"{difference:.2g}; remove the approach from export in params.yaml"
        )
    return difference
