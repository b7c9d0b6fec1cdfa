"""A trained model as an ONNX file, held against the model on validation images."""

from pathlib import Path

import numpy as np
import torch

from pipeline.base.device import torch_device
from pipeline.base.files import atomic
from pipeline.data.pixels import Split
from pipeline.data.views import pixel_inputs
from pipeline.models.export import check_onnx, export_onnx
from pipeline.models.storage import load_model
from pipeline.params import Params

IMAGES = 64  # of the validation split, at most


def main(params: Params, name: str) -> None:
    device = torch_device("cpu", params.threads)
    model, header = load_model(Path(f"models/{name}.safetensors"))
    images = Split(Path("data/pixels"), "val")
    pixels = pixel_inputs(images, header["transforms"], device)(np.arange(len(images))[:IMAGES], 0)
    with torch.inference_mode():
        logits = model(pixels)
    with atomic(f"models/{name}.onnx") as (path,):
        export_onnx(path, model, header)
        difference = check_onnx(path, pixels.contiguous().numpy(), logits)
    print(f"{name}: onnxruntime and PyTorch differ by at most {difference:.2g} in the logits of {len(pixels)} images")
