"""What in an image speaks for its prediction: Grad-CAM of every approach on the same images."""

from pathlib import Path

import pandas as pd
import torch

from pipeline.base.files import atomic
from pipeline.compute.device import setup_torch
from pipeline.data.archive import Archive
from pipeline.data.images import central_square
from pipeline.data.raw import ARCHIVE, read_classes, read_index
from pipeline.data.tables import write_csv
from pipeline.data.views import normalise
from pipeline.explain.gradcam import gradcam
from pipeline.explain.panels import (
    Panel,
    choose_images,
    explained_panel,
    write_figure,
    write_pictures,
)
from pipeline.models.files import load_model
from pipeline.models.freezing import fuse_frozen, section
from pipeline.params import Params
from stages._inputs import RAW

REPORT = Path("report")
COLUMNS = ["rule", "id", "member", "label", "approach", "prediction", "confidence", "note"]


def main(params: Params) -> None:
    device = setup_torch(params.runtime.device, params.threads)
    members = read_index(RAW).set_index("id")["member"]
    names = pd.Series(read_classes(RAW))
    predictions = {name: pd.read_csv(f"predictions/{name}.csv") for name in params.approaches}
    explained = choose_images(predictions, **params.explain.model_dump()).assign(note="")
    chosen = explained.drop_duplicates("row")
    with Archive(RAW / ARCHIVE, members[chosen["id"]].tolist()) as archive:
        encoded = {image_id: archive.read(members[image_id]) for image_id in chosen["id"]}

    columns: dict[str, list[Panel]] = {"": []}  # the images, then one column an approach
    for approach in predictions:
        cases = explained[explained["approach"] == approach]
        model = load_model(Path(f"models/{approach}.safetensors"))
        network = fuse_frozen(section(model.network, 0, None)).to(device)
        panels = []
        for case in cases.to_dict("records"):
            member = members[case["id"]]
            square = central_square(encoded[case["id"]], member, model.preprocessing)
            pixels = normalise(torch.from_numpy(square[None]).to(device), model.preprocessing)
            evidence = gradcam(network, pixels, case["prediction"])
            prediction = names[case["prediction"]]
            is_right = case["label"] == case["prediction"]
            panel = explained_panel(square, evidence, prediction, case["confidence"], is_right)
            panels.append(panel)
            if approach == next(iter(predictions)):
                columns[""].append(Panel(square, names[case["label"]]))
        columns[approach] = panels
        explained.loc[cases.index, "note"] = [panel.note for panel in panels]

    explained["member"] = explained["id"].map(members)
    explained["label"] = explained["label"].map(names)
    explained["prediction"] = explained["prediction"].map(names)
    write_pictures(REPORT / "gradcam", chosen["id"], columns)
    with atomic(REPORT / "gradcam.csv", REPORT / "gradcam.png") as (table_file, figure_file):
        write_csv(table_file, explained[COLUMNS])
        write_figure(figure_file, list(chosen["rule"]), columns, params.plots.dpi)
