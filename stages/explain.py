"""What in an image speaks for its prediction: Grad-CAM of every approach on the same images, chosen by rules."""

from pathlib import Path

import pandas as pd

from pipeline.base.device import torch_device
from pipeline.base.files import atomic, write_csv
from pipeline.data.images import central_square
from pipeline.data.raw import read_archive, read_classes, read_index
from pipeline.data.views import normalise
from pipeline.models.gradcam import gradcam
from pipeline.models.sections import for_inference, section
from pipeline.models.storage import load_model
from pipeline.params import Params
from pipeline.report.explanations import Panel, choose, draw, explained, write_pictures

RAW, REPORT = Path("data/raw"), Path("report")


def main(params: Params) -> None:
    device = torch_device(params.runtime.device, params.threads)
    members, names = read_index(RAW).set_index("id")["member"], pd.Series(read_classes(RAW))
    predictions = {name: pd.read_csv(f"predictions/{name}.csv") for name in params.approaches}
    table = choose(predictions, **params.explain.model_dump()).assign(note="")
    chosen = table.drop_duplicates("row")
    wanted = {members[number]: number for number in chosen["id"]}
    originals = {number: (encoded, name) for number, name, encoded in read_archive(RAW / "images.tar", wanted)}
    columns: dict[str, list[Panel]] = {"": []}
    for name in predictions:
        cases = table[table["approach"] == name]
        model, header = load_model(Path(f"models/{name}.safetensors"))
        network, transforms = for_inference(section(model)).to(device), header["transforms"]
        size = transforms["resize"], transforms["crop"]
        squares = [central_square(*originals[number], *size) for number in cases["id"]]
        columns[""] = columns[""] or list(map(Panel, squares, chosen["label"].map(names)))
        pixels = (normalise(square[None], transforms["mean"], transforms["std"], device) for square in squares)
        evidence = [gradcam(network, *image) for image in zip(pixels, cases["prediction"], strict=True)]
        right = cases["label"] == cases["prediction"]
        columns[name] = list(
            map(explained, squares, evidence, cases["prediction"].map(names), cases["confidence"], right)
        )
        table.loc[cases.index, "note"] = [panel.note for panel in columns[name]]

    table["member"] = table["id"].map(members)
    table[["label", "prediction"]] = table[["label", "prediction"]].apply(lambda numbers: numbers.map(names))
    write_pictures(REPORT / "gradcam", chosen["id"], columns)
    with atomic(REPORT / "gradcam.csv", REPORT / "gradcam.png") as (csv, png):
        write_csv(csv, table[["rule", "id", "member", "label", "approach", "prediction", "confidence", "note"]])
        draw(png, list(chosen["rule"]), columns, params.plots.dpi)
