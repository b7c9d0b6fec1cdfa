"""Stage compare: the table, the figures and the statistics of all approaches. Usage: python -m stages.compare"""

import json
from pathlib import Path

import pandas as pd

from pipeline import plots
from pipeline.compare import curves, differences, markdown, summary
from pipeline.files import atomic, write_json
from pipeline.params import load_params
from pipeline.runtime import run_stage

REPORT = Path("report")


def main() -> None:
    params = load_params()
    metrics = {name: json.loads(Path(f"metrics/{name}.json").read_text()) for name in params.approaches}
    histories = {name: pd.read_csv(f"history/{name}.csv") for name in params.approaches}
    predictions = {name: pd.read_csv(f"predictions/{name}.csv") for name in params.approaches}
    classes = {name: pd.read_csv(f"per_class/{name}.csv") for name in params.approaches}

    table = summary(params.approaches, metrics, params.published)
    pairs = differences(predictions)
    text = markdown(table, pairs)

    figures = {
        "comparison": plots.comparison(table),
        "confusion": plots.confusion(predictions),
        "per_class": plots.per_class(classes),
        "training_curves": plots.training_curves(histories),
    }
    tables = [REPORT / name for name in ("comparison.csv", "comparison.json", "comparison.md", "curves.csv")]
    with atomic(*tables, *(REPORT / f"{name}.png" for name in figures)) as paths:
        table.to_csv(paths[0], index=False, lineterminator="\n", float_format="%.6f")
        write_json(paths[1], {"approaches": json.loads(table.to_json(orient="records")), "differences": pairs})
        paths[2].write_text(text)
        curves(histories).to_csv(paths[3], index=False, lineterminator="\n", float_format="%.6f")
        for path, figure in zip(paths[4:], figures.values(), strict=True):
            plots.save(figure, path, params.plots.dpi)
    print(text)


if __name__ == "__main__":
    run_stage(main)
