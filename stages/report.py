"""One page that shows a person the whole result."""

import json
from pathlib import Path

import pandas as pd
import yaml

from pipeline.base.environment import PACKAGES, environment
from pipeline.base.files import hex_digest, write_text
from pipeline.data.pixels import Split
from pipeline.data.raw import read_classes, read_index
from pipeline.params import Params
from pipeline.report.page import Results, page

DATA, REPORT, TEXT = Path("data"), Path("report"), {"class": str, "mistaken_for": str}  # 007 is a name
SETTINGS = {"transforms", "threads", "precision", "features", "train", "approaches"}


def main(params: Params) -> None:
    histories, per_class, predictions = (
        {name: pd.read_csv(f"{folder}/{name}.csv", keep_default_na=False, dtype=TEXT) for name in params.approaches}
        for folder in ("history", "per_class", "predictions")
    )
    index, compared = read_index(DATA / "raw"), json.loads((REPORT / "comparison.json").read_text(encoding="utf-8"))
    digests = {str(path): hex_digest(path, "sha256") for path in (DATA / "raw/images.tar", DATA / "raw/index.csv")}
    digests["backbone"] = hex_digest(params.backbone.path, "sha256")
    metrics = {name: json.loads(Path(f"metrics/{name}.json").read_text(encoding="utf-8")) for name in params.approaches}
    digests |= {f"weights of {name}": values["weights_sha256"] for name, values in metrics.items()}
    shown = params.model_dump(include=SETTINGS, exclude_none=True)
    results = Results(
        table=pd.DataFrame(compared["approaches"]),
        differences=compared["differences"],
        histories=histories,
        per_class=per_class,
        predictions=predictions,
        dataset=json.loads((REPORT / "dataset.json").read_text(encoding="utf-8")),
        top5=pd.read_csv(REPORT / "top5.csv", keep_default_na=False, dtype=TEXT),
        explained=pd.read_csv(REPORT / "gradcam.csv", keep_default_na=False, dtype=TEXT),
        pictures=REPORT / "gradcam",
        train=Split(DATA / "pixels", "train"),
        test=Split(DATA / "pixels", "test"),
        classes=read_classes(DATA / "raw"),
        members=dict(zip(index["id"], index["member"], strict=True)),
        crop=params.transforms.crop,
        settings=yaml.safe_dump({"backbone": {"network": params.backbone.network}} | shown, sort_keys=False),
        digests=digests,
        versions={name: value for name, value in environment().items() if name in ("python", *PACKAGES)},
    )
    write_text(REPORT / "index.html", page(results))
