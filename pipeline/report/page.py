"""The report: one HTML page that holds everything it shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.figures import charts
from pipeline.figures.samples import probabilities
from pipeline.figures.style import colours, label, svg
from pipeline.report import analysis, comparison
from pipeline.report.data import Data, section
from pipeline.report.html import Cells, Picture, data_url, render, small
from pipeline.training.calibration import calibration_error, reliability, risk_coverage

# How much the page shows.
MISTAKES = 12  # images
ONLY_RIGHT = 12  # images, of all approaches together
CONFUSED = 10  # pairs of classes
CLASSES = 10  # hardest, and as many easiest


@dataclass(frozen=True)
class Results:
    """What the page shows.

    Attributes:
        dataset: its name.
        table, differences: by :mod:`pipeline.report.comparison`.
        notes: sentences below the table.
        recommended: the approach to use.
        training_curves, comparison: figures by :mod:`pipeline.figures.charts`.
        histories, per_class, predictions, validation: tables of each approach, as the stages train
            and evaluate write them; evaluations: what evaluate says in numbers.
        data: the raw data, and what the stage explore found in them.
        top5: as the stage explore writes it.
        explained, pictures: table and folder of images, as the stage explain writes them.
        square: from the id of an image to its central square, uint8 [crop, crop, 3].
        settings: sections of params.yaml, as YAML.
        digests: hex digits, by what they are of.
        versions: by package.
    """

    dataset: str
    table: pd.DataFrame
    notes: list[str]
    recommended: str
    differences: list[comparison.Difference]
    training_curves: Figure
    comparison: Figure
    histories: Mapping[str, pd.DataFrame]
    per_class: Mapping[str, pd.DataFrame]
    predictions: Mapping[str, pd.DataFrame]
    validation: Mapping[str, pd.DataFrame]
    evaluations: Mapping[str, Any]
    data: Data
    top5: pd.DataFrame
    explained: pd.DataFrame
    pictures: Path
    square: Callable[[int], np.ndarray]
    settings: str
    digests: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Chart:
    """A figure, and the same numbers as a table."""

    name: str
    svg: str
    head: list[str]
    rows: Cells


def page(results: Results) -> str:
    """The page as HTML. Images and charts are inside it; it loads nothing and runs no script."""
    names = list(results.predictions)
    answer = analysis.answer(results.table, results.differences)
    bins = _reliability(results)
    train = results.data.index[results.data.index["split"] == "train"]
    return render(
        "report.html",
        dataset=results.dataset,
        answer=answer[0].upper() + answer[1:],
        comparison=comparison.rows(results.table),
        notes=results.notes,
        recommended=results.recommended,
        more_epochs=2 * len(results.histories[results.recommended]),
        names={name: label(name) for name in names},
        colours=colours(names),
        charts=_charts(results, bins),
        only_right=_only_right(results),
        confused=_confused(results),
        mistakes=_mistakes(results),
        explained=_explained(results),
        classes=_classes(results),
        calibration={name: _calibration(results, name, bins[name]) for name in names},
        sure=[_sure(results, name) for name in names],
        first=_picture(results, train["id"].iloc[0]),
        data=section(results.data),
        settings=results.settings,
        digests=results.digests,
        versions=results.versions,
    )


def _test_images(results: Results) -> pd.DataFrame:
    """The test images, in the order of the predictions: columns id and label."""
    return next(iter(results.predictions.values()))[["id", "label"]]


def _charts(results: Results, bins: Mapping[str, pd.DataFrame]) -> dict[str, Chart]:
    columns = ["val_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high"]
    accuracies = [
        [label(name), *(f"{value:.1%}" for value in row)]
        for name, *row in results.table[["approach", *columns]].itertuples(index=False)
    ]
    epochs = [
        [label(name), *(f"{value:.4g}" for value in epoch)]
        for name, history in results.histories.items()
        for epoch in history.itertuples(index=False)
    ]
    calibration = [
        [
            label(name),
            f"{row.low:.0%} to {row.high:.0%}",
            str(row.n),
            f"{row.confidence:.1%}",
            f"{row.accuracy:.1%}",
        ]
        for name, table in bins.items()
        for row in table.itertuples()
    ]
    risks = _risk_coverage(results)
    steps = [
        [label(name), f"{row.coverage:.0%}", f"{row.confidence:.1%}", f"{row.risk:.1%}"]
        for name, table in risks.items()
        for row in table.iloc[
            np.linspace(0, len(table) - 1, min(11, len(table))).astype(int)
        ].itertuples()
    ]
    top5 = [[row["class"], f"{row['probability']:.1%}"] for row in results.top5.to_dict("records")]
    return {
        "comparison": _chart(
            results.comparison,
            "Validation and test accuracy of each approach",
            ["approach", "validation", "test", "95 % interval from", "to"],
            accuracies,
        ),
        "curves": _chart(
            results.training_curves,
            "Loss and accuracy by epoch",
            [
                "approach",
                "epoch",
                "training loss",
                "training accuracy",
                "validation loss",
                "validation accuracy",
            ],
            epochs,
        ),
        "reliability": _chart(
            charts.reliability(bins),
            "Accuracy by confidence on the test images",
            ["approach", "confidence", "images", "mean confidence", "accuracy"],
            calibration,
        ),
        "risk_coverage": _chart(
            charts.risk_coverage(risks),
            "Wrong answers if only confident ones are given, on the validation images",
            ["approach", "share of the images", "confidence from", "wrong answers"],
            steps,
        ),
        "top5": _chart(
            probabilities(results.top5),
            "Most probable classes of the first training image before training",
            ["class", "probability"],
            top5,
        ),
    }


def _chart(figure: Figure, name: str, head: list[str], rows: Cells) -> Chart:
    return Chart(name, svg(figure, name), head, rows)


def _calibration(results: Results, name: str, bins: pd.DataFrame) -> dict[str, str]:
    """Calibration error on the test images before and after the temperature, and that itself."""
    before = results.evaluations[name]["test"]["uncalibrated_calibration_error"]
    return {
        "before": f"{before:.1%}",
        "after": f"{calibration_error(bins):.1%}",
        "temperature": f"{results.evaluations[name]['temperature']:.2f}",
    }


def _sure(results: Results, name: str) -> list[str]:
    """From which confidence on a model is sure, and what that means for the test images."""
    least = results.evaluations[name]["sure_from"]
    test = results.predictions[name]
    sure = test[test["verdict"] == "sure"]
    right = (sure["label"] == sure["prediction"]).mean() if len(sure) else 0.0
    answered = f"{len(sure) / len(test):.0%}"
    unknown = 1 - results.evaluations[name]["test"]["known"]
    return [
        label(name),
        f"{least:.1%}",
        answered,
        f"{right:.1%}" if len(sure) else "none",
        f"{unknown:.1%}",
    ]


def _risk_coverage(results: Results) -> dict[str, pd.DataFrame]:
    return {
        name: risk_coverage(table["confidence"].to_numpy(), _correct(table))
        for name, table in results.validation.items()
    }


def _correct(table: pd.DataFrame) -> np.ndarray:
    return (table["label"] == table["prediction"]).to_numpy()


def _reliability(results: Results) -> dict[str, pd.DataFrame]:
    bins = {}
    for name, table in results.predictions.items():
        bins[name] = reliability(table["confidence"].to_numpy(), _correct(table))
    return bins


def _picture(results: Results, image_id: int, note: str = "") -> Picture:
    """The central square of an image of any split, made small."""
    index = results.data.index
    row = index[index["id"] == image_id].iloc[0]
    class_name = results.data.classes[row["label"]]
    return Picture(small(results.square(int(image_id))), class_name, row["member"], note)


def _mistakes(results: Results) -> list[Picture]:
    test = _test_images(results)
    pictures = []
    for mistake in analysis.mistakes(results.predictions, MISTAKES).to_dict("records"):
        predicted = results.data.classes[mistake["prediction"]]
        approach = label(mistake["approach"])
        note = f": {approach} predicts {predicted} ({mistake['confidence']:.1%})"
        pictures.append(_picture(results, test["id"].iloc[mistake["row"]], note))
    return pictures


def _only_right(results: Results) -> dict[str, dict[str, Any]]:
    """For each approach how many images only it gets right, and some of them.

    Below an image stands what another approach predicts.
    """
    test = _test_images(results)
    count = max(2, ONLY_RIGHT // max(2, len(results.predictions)))
    found = {}
    for name, rows in analysis.only_right(results.predictions).items():
        others = [table for key, table in results.predictions.items() if key != name]
        pictures = []
        for row in rows[:count] if others else []:
            predicted = results.data.classes[others[0]["prediction"].iloc[row]]
            note = f" (predicted: {predicted})"
            pictures.append(_picture(results, test["id"].iloc[row], note))
        found[name] = {"count": len(rows), "images": pictures}
    return found


def _confused(results: Results) -> list[dict[str, Any]]:
    """The most confused pairs of classes: their names, how often, an image of each class."""
    test = _test_images(results)
    pairs = []
    for pair in analysis.confused_pairs(results.predictions, CONFUSED):
        pictures = []
        for class_id, row in zip(pair.classes, pair.rows, strict=True):
            of_class = np.flatnonzero(test["label"] == class_id)
            if row is not None:
                pictures.append(_picture(results, test["id"].iloc[row], " (mistaken)"))
            elif len(of_class):
                pictures.append(_picture(results, test["id"].iloc[of_class[0]]))
        names = [results.data.classes[class_id] for class_id in pair.classes]
        pairs.append({"names": names, "times": pair.times, "images": pictures})
    return pairs


def _explained(results: Results) -> list[dict[str, Any]]:
    """Images of Grad-CAM: rule, file, and pictures: of the image itself and of each approach."""
    images = []
    for image_id, rows in results.explained.groupby("id", sort=False):
        first = rows.iloc[0]
        pictures = [_saved_picture(results, f"{image_id}.jpg", first["label"])]
        for row in rows.to_dict("records"):
            words = f"{label(row['approach'])}: {row['prediction']}, {row['confidence']:.1%}"
            if row["note"]:
                words += f"; {row['note']}"
            pictures.append(_saved_picture(results, f"{image_id}-{row['approach']}.jpg", words))
        images.append({"rule": first["rule"], "file": first["member"], "pictures": pictures})
    return images


def _saved_picture(results: Results, file_name: str, words: str) -> dict[str, str]:
    source = data_url((results.pictures / file_name).read_bytes())
    return {"source": source, "words": words}


def _classes(results: Results) -> dict[str, Cells]:
    """Hardest and easiest classes: name, test images, accuracy of each approach."""
    by_label = {name: table.set_index("label") for name, table in results.per_class.items()}
    accuracy = pd.DataFrame({name: table["accuracy"] for name, table in by_label.items()})
    sizes = next(iter(by_label.values()))["n"]
    ranked = accuracy.mean(axis=1).sort_values(kind="stable").index
    easiest = ranked[max(CLASSES, len(ranked) - CLASSES) :][::-1]
    parts = {"Hardest": ranked[:CLASSES], "Easiest": easiest}
    tables = {}
    for title, chosen in parts.items():
        if len(chosen):
            tables[title] = [
                [
                    results.data.classes[class_id],
                    str(sizes[class_id]),
                    *(f"{value:.0%}" for value in accuracy.loc[class_id]),
                ]
                for class_id in chosen
            ]
    return tables
