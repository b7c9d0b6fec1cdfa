"""One table, the statistics of the differences and the figures, of all approaches."""

import json
from pathlib import Path

import pandas as pd

from pipeline.base.files import atomic, write_csv, write_json
from pipeline.params import Params
from pipeline.report import figures
from pipeline.report.comparison import confusion, curves, differences, markdown, notes, rows, summary, together
from pipeline.report.style import save

REPORT, TEXT = Path("report"), {"class": str, "mistaken_for": str}  # 007 is a name


def main(params: Params) -> None:
    metrics = {name: json.loads(Path(f"metrics/{name}.json").read_text(encoding="utf-8")) for name in params.approaches}
    histories, predictions, classes = (
        {name: pd.read_csv(f"{folder}/{name}.csv", keep_default_na=False, dtype=TEXT) for name in params.approaches}
        for folder in ("history", "predictions", "per_class")
    )
    table = summary(params.approaches, metrics, params.published)
    pairs = differences(predictions)
    labels = next(iter(predictions.values()))["label"]
    text = markdown(rows(table), notes(table, pairs, labels.value_counts(normalize=True).max()))
    confusions = {name: confusion(predictions[name], classes[name]) for name in params.approaches}
    drawn = {
        "comparison": figures.comparison(table),
        "confusion": figures.confusion(confusions),
        "per_class": figures.per_class(classes),
        "training_curves": figures.training_curves(histories),
    }
    tables = {
        "comparison": table,
        "confusion": together(confusions),
        "curves": together({name: curves(history) for name, history in histories.items()}),
        "per_class": together(classes),
    }
    outs = [*(f"{name}.csv" for name in tables), *(f"{name}.png" for name in drawn), "comparison.json", "comparison.md"]
    with atomic(*(REPORT / out for out in outs)) as (*paths, json_file, text_file):
        for path, content in zip(paths, tables.values(), strict=False):
            write_csv(path, content)
        for path, figure in zip(paths[len(tables) :], drawn.values(), strict=True):
            save(figure, path, params.plots.dpi)
        write_json(json_file, {"approaches": json.loads(table.to_json(orient="records")), "differences": pairs})
        text_file.write_text(text, encoding="utf-8")
    print(text)
