"""One table, the statistics of the differences and the figures, of all approaches."""

import json
from pathlib import Path

import pandas as pd

from pipeline.base.files import atomic, write_csv, write_json
from pipeline.params import Params
from pipeline.report import figures
from pipeline.report.comparison import curves, differences, markdown, summary

REPORT = Path("report")


def main(params: Params) -> None:
    metrics = {name: json.loads(Path(f"metrics/{name}.json").read_text(encoding="utf-8")) for name in params.approaches}
    histories, predictions, classes = (
        {name: pd.read_csv(f"{folder}/{name}.csv", keep_default_na=False) for name in params.approaches}
        for folder in ("history", "predictions", "per_class")
    )
    table = summary(params.approaches, metrics, params.published)
    pairs = differences(predictions)
    labels = next(iter(predictions.values()))["label"]
    text = markdown(table, pairs, labels.value_counts(normalize=True).max())
    drawn = {
        "comparison": figures.comparison(table),
        "confusion": figures.confusion(predictions),
        "per_class": figures.per_class(classes),
        "training_curves": figures.training_curves(histories),
    }
    tables = [REPORT / name for name in ("comparison.csv", "comparison.json", "comparison.md", "curves.csv")]
    with atomic(*tables, *(REPORT / f"{name}.png" for name in drawn)) as paths:
        write_csv(paths[0], table)
        write_json(paths[1], {"approaches": json.loads(table.to_json(orient="records")), "differences": pairs})
        paths[2].write_text(text, encoding="utf-8")
        write_csv(paths[3], curves(histories))
        for path, figure in zip(paths[4:], drawn.values(), strict=True):
            figures.save(figure, path, params.plots.dpi)
    print(text)
