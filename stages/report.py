"""All results for people: tables, figures, and one page that shows them together."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.environment import PACKAGES, environment
from pipeline.base.files import atomic, hex_digest
from pipeline.data.images import Preprocessing
from pipeline.data.raw import INDEX
from pipeline.data.tables import read_json, read_table, write_csv, write_json
from pipeline.figures import charts
from pipeline.figures.style import label, save
from pipeline.params import Params
from pipeline.report import comparison
from pipeline.report.data import read_data
from pipeline.report.page import Results, page
from pipeline.training.history import remarks

RAW = Path("data/raw")
REPORT = Path("report")


def main(params: Params) -> None:
    names = list(params.approaches)
    evaluations = {name: read_json(f"evaluation/{name}.json") for name in names}
    histories = {name: read_table(f"history/{name}.csv") for name in names}
    predictions = {name: read_table(f"predictions/{name}.csv") for name in names}
    validation = {name: read_table(f"validation/{name}.csv") for name in names}
    unlabelled = {name: read_table(f"unlabelled/{name}.csv") for name in names}
    per_class = {name: read_table(f"per_class/{name}.csv") for name in names}

    recipes = {name: approach.recipe(params.train) for name, approach in params.approaches.items()}
    table = comparison.summary(recipes, evaluations, params.published)
    differences = comparison.differences(predictions)
    confusions = {name: comparison.confusion(predictions[name], per_class[name]) for name in names}
    curves = {name: comparison.curves(history) for name, history in histories.items()}
    tables = {
        "comparison": table,
        "confusion": comparison.concatenated(confusions),
        "curves": comparison.concatenated(curves),
        "per_class": comparison.concatenated(per_class),
        "unlabelled": comparison.concatenated(unlabelled),
    }
    figures = {
        "comparison": charts.comparison(table),
        "confusion": charts.confusion(confusions),
        "per_class": charts.per_class(per_class),
        "training_curves": charts.training_curves(histories),
    }
    labels = predictions[names[0]]["label"]
    largest_class = labels.value_counts(normalize=True).max()
    notes = comparison.notes(table, differences, largest_class)
    for name, recipe in recipes.items():
        images = evaluations[name]["val"]["images"]
        found = remarks(histories[name], images, recipe.keep)
        notes += [f"{label(name)}: {remark}." for remark in found]
    recommended = comparison.recommended(table, differences)
    text = comparison.markdown(comparison.rows(table), notes)

    data = read_data(RAW, REPORT)
    train = params.train
    mean, std = params.backbone.mean, params.backbone.std
    preprocessing = Preprocessing(train.resize, train.crop, mean, std, train.fit)
    html = page(
        Results(
            dataset=params.dataset.name,
            table=table,
            notes=notes,
            recommended=recommended,
            differences=differences,
            training_curves=figures["training_curves"],
            comparison=figures["comparison"],
            histories=histories,
            per_class=per_class,
            predictions=predictions,
            validation=validation,
            evaluations=evaluations,
            data=data,
            top5=read_table(REPORT / "top5.csv"),
            explained=read_table(REPORT / "gradcam.csv"),
            pictures=REPORT / "gradcam",
            square=partial(data.images.square, preprocessing=preprocessing),
            settings=settings(params),
            digests=digests(params, evaluations),
            versions=versions(),
        )
    )

    curves_table = tables.pop("curves")  # in git, so not in report/
    outs = [f"{name}.csv" for name in tables] + [f"{name}.png" for name in figures]
    outs += ["comparison.json", "comparison.md", "index.html"]
    shown = ("metrics.json", "curves.csv")
    with atomic(*shown, *(REPORT / out for out in outs)) as (metrics, curves_file, *temporaries):
        write_json(metrics, comparison.headline(evaluations))
        write_csv(curves_file, curves_table)
        paths = dict(zip(outs, temporaries, strict=True))
        for name, content in tables.items():
            write_csv(paths[f"{name}.csv"], content)
        for name, figure in figures.items():
            save(figure, paths[f"{name}.png"], params.plots.dpi)
        records = {
            "approaches": json.loads(table.to_json(orient="records")),
            "differences": [difference.record() for difference in differences],
            "recommended": recommended,
        }
        write_json(paths["comparison.json"], records)
        paths["comparison.md"].write_bytes(text.encode())
        paths["index.html"].write_bytes(html.encode())
    print(text)


def settings(params: Params) -> str:
    """What was computed, as sections of params.yaml."""
    shown: Any = {
        "backbone": {"network": True},
        "threads": True,
        "train": True,
        "approaches": True,
    }
    return yaml.safe_dump(params.model_dump(include=shown, exclude_none=True), sort_keys=False)


def digests(params: Params, evaluations: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of inputs and models, as hex digits by what they are of."""
    found = {
        "images (data/raw/index.csv has a digest of each)": hex_digest(RAW / INDEX, "sha256"),
        "backbone": hex_digest(params.backbone.path, "sha256"),
    }
    for name, evaluation in evaluations.items():
        found[f"weights of {name}"] = evaluation["weights_sha256"]
    return found


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute or write something of a result."""
    return {
        name: version for name, version in environment().items() if name in ("python", *PACKAGES)
    }
