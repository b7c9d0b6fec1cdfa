"""A trained model as an ONNX file, compared with the model on validation images."""

from pathlib import Path

import numpy as np
import torch

from pipeline.base.files import atomic
from pipeline.compute.device import setup_torch
from pipeline.data.archive import Archive
from pipeline.data.images import central_square
from pipeline.data.raw import ARCHIVE, read_index
from pipeline.data.views import normalise
from pipeline.export.onnx import check_onnx, export_onnx
from pipeline.models.files import load_model
from pipeline.params import Params
from stages._inputs import RAW

IMAGES = 64  # of the validation split, at most


def main(params: Params, name: str) -> None:
    setup_torch("cpu", params.threads)
    model = load_model(Path(f"models/{name}.safetensors"))
    network = model.exportable()
    index = read_index(RAW)
    members = index.loc[index["split"] == "val", "member"].head(IMAGES).tolist()
    preprocessing = model.preprocessing
    with Archive(RAW / ARCHIVE, members) as archive:
        squares = [central_square(archive.read(name), name, preprocessing) for name in members]
    pixels = normalise(torch.from_numpy(np.stack(squares)), preprocessing)
    with torch.inference_mode():
        logits = network(pixels)
    with atomic(f"exported/{name}.onnx") as (path,):
        export_onnx(path, network, model.header)
        difference = check_onnx(path, pixels.contiguous().numpy(), logits)
    print(
        f"{name}: onnxruntime and PyTorch differ by at most {difference:.2g} in the logits of "
        f"{len(pixels)} images"
    )
