"""A trained model as a folder to publish: weights, ONNX, labels, model card, examples."""

import shutil
from pathlib import Path

import numpy as np
import torch

from pipeline.base.errors import choose
from pipeline.base.files import atomic, hex_digest
from pipeline.compute.device import setup_torch
from pipeline.data.archive import Archive
from pipeline.data.images import central_square
from pipeline.data.raw import ARCHIVE, read_index
from pipeline.data.tables import read_json, read_table, write_json
from pipeline.data.views import normalise
from pipeline.export.card import EXAMPLES, Facts, model_card
from pipeline.export.onnx import check_onnx, export_onnx
from pipeline.models.files import load_model
from pipeline.params import Params
from stages._inputs import RAW

IMAGES = 64  # of the validation split, at most, on which ONNX is compared


def main(params: Params, name: str) -> None:
    setup_torch("cpu", params.threads)
    weights = Path(f"models/{name}.safetensors")
    model = load_model(weights)
    index = read_index(RAW)
    members = index.loc[index["split"] == "val", "member"].head(IMAGES).tolist()
    preprocessing = model.preprocessing
    with Archive(RAW / ARCHIVE, members) as archive:
        squares = [central_square(archive.read(name), name, preprocessing) for name in members]
    pixels = normalise(torch.from_numpy(np.stack(squares)), preprocessing)
    with torch.inference_mode():
        answers = model.exportable()(pixels)

    examples = sorted(EXAMPLES.glob("*.py"))
    made = ["model.safetensors", "model.onnx", "labels.json", "README.md"]
    outs = [f"exported/{name}/{file}" for file in [*made, *(path.name for path in examples)]]
    with atomic(*outs) as (safetensors_file, onnx_file, labels_file, card_file, *example_files):
        shutil.copyfile(weights, safetensors_file)
        export_onnx(onnx_file, model, params.onnx_opset)
        difference = check_onnx(onnx_file, pixels.contiguous().numpy(), answers)
        write_json(labels_file, model.header.classes)
        for example, path in zip(examples, example_files, strict=True):
            shutil.copyfile(example, path)
        facts = Facts(
            dataset=params.dataset,
            recipe=choose(params.approaches, name, "approaches").recipe(params.train),
            header=model.header,
            evaluation=read_json(f"evaluation/{name}.json"),
            predictions=read_table(f"predictions/{name}.csv"),
            per_class=read_table(f"per_class/{name}.csv"),
            images={
                split: int((index["split"] == split).sum()) for split in ("train", "val", "test")
            },
            alike=read_table("report/alike.csv"),
            digests={
                "model.safetensors": hex_digest(safetensors_file, "sha256"),
                "model.onnx": hex_digest(onnx_file, "sha256"),
                "the backbone": hex_digest(params.backbone.path, "sha256"),
            },
        )
        card_file.write_text(model_card(facts), encoding="utf-8", newline="\n")
    print(
        f"{name}: onnxruntime and PyTorch differ by at most {difference:.2g} in the logits of "
        f"{len(pixels)} images"
    )
    print(f"exported/{name}/README.md is the model's card; the folder can be published as it is")
