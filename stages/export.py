"""A trained model as an ONNX file, held against the model on validation images."""

from pathlib import Path

import numpy as np
import torch

from pipeline.base.device import torch_device
from pipeline.base.files import atomic
from pipeline.data.images import central_square
from pipeline.data.raw import read_archive, read_index
from pipeline.data.views import normalise
from pipeline.models.export import check_onnx, export_onnx
from pipeline.models.sections import as_evaluated
from pipeline.models.storage import load_model
from pipeline.params import Params

RAW, IMAGES = Path("data/raw"), 64  # of the validation split, at most


def main(params: Params, name: str) -> None:
    device = torch_device("cpu", params.threads)
    model, header = load_model(Path(f"models/{name}.safetensors"))
    model = as_evaluated(model, header)
    index, transforms = read_index(RAW), header["transforms"]
    images = index[index["split"] == "val"].head(IMAGES)
    ids = dict(zip(images["member"], images["id"], strict=True))
    originals, size = read_archive(RAW / "images.tar", ids), (transforms["resize"], transforms["crop"])
    squares = np.stack([central_square(encoded, name, *size) for _, name, encoded in originals])
    pixels = normalise(squares, transforms["mean"], transforms["std"], device)
    with torch.inference_mode():
        logits = model(pixels)
    with atomic(f"models/{name}.onnx") as (path,):
        export_onnx(path, model, header)
        difference = check_onnx(path, pixels.contiguous().numpy(), logits)
    print(f"{name}: onnxruntime and PyTorch differ by at most {difference:.2g} in the logits of {len(pixels)} images")
