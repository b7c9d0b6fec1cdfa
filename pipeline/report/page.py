"""The report: one HTML page that holds all it shows, made of the pipeline's own outs."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from pipeline.data.pixels import Split
from pipeline.data.raw import SPLITS
from pipeline.report import analysis, comparison, figures
from pipeline.report.style import colours, label, svg
from pipeline.training.evaluation import calibration_error, reliability

SIDE = 128  # of a small image, pixels
GALLERY, PAIRS, CLASSES = 12, 10, 10  # images, pairs of classes, best and worst classes to show
Cells = list[list[str]]


@dataclass(frozen=True)
class Results:
    """What the page shows: outs of the stages before it.

    Attributes:
        table, differences, histories, per_class, predictions: as the stages evaluate and compare make them.
        dataset, top5: as explore makes them.
        explained, pictures: table and folder of images, as explain makes them.
        train, test: splits.
        classes: names; members: of each image, by its id; crop: side of the square that the network sees.
        settings: sections of params.yaml, as YAML; digests: hex digits by what they are of; versions: by package.
    """

    table: pd.DataFrame
    differences: list[dict[str, Any]]
    histories: Mapping[str, pd.DataFrame]
    per_class: Mapping[str, pd.DataFrame]
    predictions: Mapping[str, pd.DataFrame]
    dataset: Mapping[str, Any]
    top5: pd.DataFrame
    explained: pd.DataFrame
    pictures: Path
    train: Split
    test: Split
    classes: Sequence[str]
    members: Mapping[int, str]
    crop: int
    settings: str
    digests: Mapping[str, str]
    versions: Mapping[str, str]


def page(results: Results) -> str:
    """The page as HTML: every image and chart is in it, it asks for nothing and runs no script."""
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names, answer = list(results.predictions), analysis.answer(results.table, results.differences)
    labels, bins = results.test.labels, _reliability(results)
    return environment.get_template("report.html").render(
        answer=answer[0].upper() + answer[1:],
        comparison=comparison.rows(results.table),
        notes=comparison.notes(results.table, results.differences, np.bincount(labels).max() / len(labels)),
        names={name: label(name) for name in names},
        colours=colours(names),
        charts=_charts(results, bins),
        only_right=_only_right(results),
        confused=_confused(results),
        mistakes=[
            _wrong(results, row) | {"approach": row.approach}
            for row in analysis.mistakes(results.predictions, GALLERY).itertuples()
        ],
        explained=_explained(results),
        classes=_classes(results),
        calibration={name: f"{calibration_error(table):.1%}" for name, table in bins.items()},
        first=_image(results, results.train, 0),
        samples=[_image(results, results.train, row) for row in analysis.samples(results.train.labels, 18)],
        dataset=results.dataset,
        splits=[[name, *map(str, results.dataset[name].values())] for name in SPLITS],
        settings=results.settings,
        digests=results.digests,
        versions=results.versions,
    )


def _chart(figure: Figure, name: str, head: list[str], cells: Cells) -> dict[str, Any]:
    """A figure, and the same numbers as a table."""
    return {"name": name, "svg": svg(figure, name), "head": head, "rows": cells}


def _charts(results: Results, bins: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, Any]]:
    bars = results.table[["approach", "val_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high"]]
    curves = [
        [label(name), *(f"{value:.4g}" for value in epoch)]
        for name, history in results.histories.items()
        for epoch in history.itertuples(index=False)
    ]
    calibration = [
        [label(name), f"{row.low:.0%} to {row.high:.0%}", str(row.n), f"{row.confidence:.1%}", f"{row.accuracy:.1%}"]
        for name, table in bins.items()
        for row in table.itertuples()
    ]
    epoch = ["approach", "epoch", "training loss", "training accuracy", "validation loss", "validation accuracy"]
    return {
        "comparison": _chart(
            figures.comparison(results.table),
            "Validation and test accuracy of each approach",
            ["approach", "validation", "test", "95 % interval from", "to"],
            [[label(name), *(f"{value:.1%}" for value in row)] for name, *row in bars.itertuples(index=False)],
        ),
        "curves": _chart(figures.training_curves(results.histories), "Loss and accuracy by epoch", epoch, curves),
        "reliability": _chart(
            figures.reliability(bins),
            "Accuracy by confidence on the test images",
            ["approach", "confidence from", "images", "mean confidence", "accuracy"],
            calibration,
        ),
        "top5": _chart(
            figures.probabilities(results.top5),
            "Most probable ImageNet classes of the first training image",
            ["class", "probability"],
            [[row["class"], f"{row['probability']:.1%}"] for row in results.top5.to_dict("records")],
        ),
    }


def _reliability(results: Results) -> dict[str, pd.DataFrame]:
    return {
        name: reliability(table["confidence"].to_numpy(), (table["label"] == table["prediction"]).to_numpy())
        for name, table in results.predictions.items()
    }


def _embedded(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _image(results: Results, images: Split, row: int) -> dict[str, str]:
    """A small image of a split, its class and its file."""
    file = io.BytesIO()
    Image.fromarray(images.central([row], results.crop)[0]).resize((SIDE, SIDE)).save(
        file, "JPEG", quality=75, optimize=True
    )
    return {
        "source": _embedded(file.getvalue()),
        "class": results.classes[images.labels[row]],
        "file": results.members[int(images.ids[row])],
    }


def _wrong(results: Results, mistake: Any) -> dict[str, str]:
    """The image of a wrong prediction (row, prediction, confidence), and what it was taken for."""
    taken = {"prediction": results.classes[mistake.prediction], "confidence": f"{mistake.confidence:.1%}"}
    return _image(results, results.test, mistake.row) | taken


def _only_right(results: Results) -> dict[str, dict[str, Any]]:
    """For each approach how many images it alone gets right, and some of them, with what another took them for."""
    found = {}
    count = max(2, GALLERY // max(2, len(results.predictions)))
    for name, rows in analysis.only_right(results.predictions).items():
        other = next((table for key, table in results.predictions.items() if key != name), None)
        shown = [
            _image(results, results.test, row) | {"prediction": results.classes[other["prediction"].iloc[row]]}
            for row in rows[:count]
            if other is not None
        ]
        found[name] = {"count": len(rows), "images": shown}
    return found


def _confused(results: Results) -> list[dict[str, Any]]:
    pairs = []
    for pair in analysis.confused(results.predictions, PAIRS):
        images = []
        for number, row in zip(pair["classes"], pair["rows"], strict=True):
            of_class = np.flatnonzero(results.test.labels == number)
            found = row if row is not None else int(of_class[0]) if len(of_class) else None
            mistaken = {"mistaken": row is not None}
            images.append(None if found is None else _image(results, results.test, found) | mistaken)
        names = [results.classes[number] for number in pair["classes"]]
        pairs.append({"names": names, "times": pair["times"], "images": [image for image in images if image]})
    return pairs


def _explained(results: Results) -> list[dict[str, Any]]:
    """Images of Grad-CAM: rule, class, file, and for itself and each approach a picture with what stands below it."""
    images = []
    for number, rows in results.explained.groupby("id", sort=False):
        first = rows.iloc[0]
        pictures = [{"source": _embedded((results.pictures / f"{number}.jpg").read_bytes()), "words": first["label"]}]
        for row in rows.to_dict("records"):
            source = _embedded((results.pictures / f"{number}-{row['approach']}.jpg").read_bytes())
            note = f"; {row['note']}" if row["note"] else ""
            words = f"{label(row['approach'])}: {row['prediction']}, {row['confidence']:.1%}{note}"
            pictures.append({"source": source, "words": words})
        images.append({"rule": first["rule"], "file": first["member"], "pictures": pictures})
    return images


def _classes(results: Results) -> dict[str, Cells]:
    """Worst and best classes: name, test images, accuracy of each approach."""
    accuracy = pd.DataFrame({name: table.set_index("label")["accuracy"] for name, table in results.per_class.items()})
    sizes = next(iter(results.per_class.values())).set_index("label")["n"]
    ranked = accuracy.mean(axis=1).sort_values(kind="stable").index
    parts = {"Hardest": ranked[:CLASSES], "Easiest": ranked[max(CLASSES, len(ranked) - CLASSES) :][::-1]}
    return {
        title: [
            [results.classes[number], str(sizes[number]), *(f"{value:.0%}" for value in accuracy.loc[number])]
            for number in chosen
        ]
        for title, chosen in parts.items()
        if len(chosen)
    }
