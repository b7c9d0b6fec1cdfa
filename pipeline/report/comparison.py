"""The comparison of the approaches: its table, the differences between them, other tables."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import pandas as pd

from pipeline.figures.style import label
from pipeline.params import Published, Recipe
from pipeline.report.statistics import (
    PairedDifference,
    accuracy_interval,
    holm,
    paired_difference,
)

Row = Mapping[Any, Any]  # a row of the comparison, by the names of the columns

# Settings of a recipe that have a row of their own where the approaches differ in them.
SETTINGS = {
    "resize": "short side of the images, pixels",
    "training_side": "side of the crop in training, pixels",
    "crop": "side of the crop in evaluation, pixels",
    "fit": "cropped or padded",
    "flip": "probability of a flip",
    "flip_averaging": "averaged with the mirror image",
    "precision": "precision",
    "epochs": "epochs",
    "batch_size": "batch size",
    "schedule": "schedule of the learning rates",
    "warm_up": "warm-up, epochs",
    "label_smoothing": "label smoothing",
    "class_weights": "weights of the classes",
    "keep": "epoch that is kept",
}


SURE = 0.05  # a p-value below this says that approaches differ


@dataclass(frozen=True)
class Difference:
    """Two approaches on the same test images, second minus first.

    Attributes:
        accuracy: the difference in accuracy.
        p_value_holm: its p-value, adjusted for the number of differences.
    """

    first: str
    second: str
    accuracy: PairedDifference
    p_value_holm: float

    def is_better(self, name: str) -> bool:
        """Whether chance does not explain that the approach ``name`` is the better one.

        Both must say so: the interval of the difference, and McNemar's test.
        """
        low = self.accuracy.low if name == self.second else -self.accuracy.high
        return low > 0 and self.p_value_holm < SURE

    def record(self) -> dict[str, Any]:
        """All values in one dictionary, for a JSON file."""
        names = {"first": self.first, "second": self.second}
        return names | asdict(self.accuracy) | {"p_value_holm": self.p_value_holm}


def summary(
    recipes: Mapping[str, Recipe],
    evaluations: Mapping[str, Any],
    published: Mapping[str, Published],
) -> pd.DataFrame:
    """The comparison as a table, one row per approach.

    Args:
        recipes, evaluations: of each approach; the latter as in evaluation/NAME.json.
        published: figures of some approaches to print beside ours.

    Returns:
        Columns approach, initial, those of ``SETTINGS`` in which the approaches differ,
        parameters and trainable (numbers), trainable_fraction, learning_rates, val_accuracy,
        val_loss, test_accuracy, test_accuracy_low and test_accuracy_high (its 95 % interval),
        test_top5_accuracy, test_balanced_accuracy, test_loss, n_test (images), and, if there are
        published figures, published_val_accuracy, published_val_loss, published_test_accuracy.
        Accuracies are fractions, losses mean cross-entropy in nats. The validation loss is that of
        the logits as they are, to be held beside the published one; the test loss is calibrated.
    """
    differing = [key for key in SETTINGS if _differ_in(key, recipes)]
    rows = []
    for name, recipe in recipes.items():
        test = evaluations[name]["test"]
        val = evaluations[name]["val"]
        n_test = test["images"]
        parameters = evaluations[name]["parameters"]
        low, high = accuracy_interval(round(test["accuracy"] * n_test), n_test)
        rates = [f"{module} {rate:g}" for module, rate in recipe.learning_rates.items()]
        row: dict[str, Any] = {"approach": name, "initial": recipe.initial}
        row |= {key: _as_cell(getattr(recipe, key)) for key in differing}
        row |= {
            "parameters": parameters["total"],
            "trainable": parameters["trainable"],
            "trainable_fraction": parameters["trainable"] / parameters["total"],
            "learning_rates": ", ".join(rates),
            "val_accuracy": val["accuracy"],
            "val_loss": val["uncalibrated_loss"],
            "test_accuracy": test["accuracy"],
            "test_accuracy_low": low,
            "test_accuracy_high": high,
            "test_top5_accuracy": test["top5_accuracy"],
            "test_balanced_accuracy": test["balanced_accuracy"],
            "test_loss": test["loss"],
            "n_test": n_test,
        }
        if name in published:
            figures = published[name].model_dump()
            row |= {f"published_{key}": value for key, value in figures.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def recommended(table: pd.DataFrame, pairs: list[Difference]) -> str:
    """The approach to use: the one that trains least, unless a larger one is surely better.

    Args:
        table: by :func:`summary`.
        pairs: by :func:`differences`.
    """
    chosen, *others = table.sort_values("trainable", kind="stable")["approach"]
    for name in others:
        pair = next(pair for pair in pairs if {pair.first, pair.second} == {chosen, name})
        if pair.is_better(name):
            chosen = name
    return str(chosen)


def headline(evaluations: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The few figures that `dvc metrics diff` and `dvc exp show` print, by approach."""
    shown = {
        "test": ("test", "accuracy"),
        "val": ("val", "accuracy"),
        "test_loss": ("test", "loss"),
        "val_loss": ("val", "uncalibrated_loss"),
        "calibration_error": ("test", "calibration_error"),
    }
    return {
        title: {name: values[split][key] for name, values in evaluations.items()}
        for title, (split, key) in shown.items()
    }


def _differ_in(key: str, recipes: Mapping[str, Recipe]) -> bool:
    values = [getattr(recipe, key) for recipe in recipes.values()]
    return any(value != values[0] for value in values)


def _as_cell(value: Any) -> Any:
    """The value of a setting as a table holds it: a number or text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


def differences(predictions: Mapping[str, pd.DataFrame]) -> list[Difference]:
    """The difference in test accuracy of every two approaches; p-values adjusted by Holm's method.

    Args:
        predictions: of each approach, on the same images: columns id, label, prediction.
    """
    ids = next(iter(predictions.values()))["id"]
    assert all(table["id"].equals(ids) for table in predictions.values()), "different images"
    correct = {
        name: (table["label"] == table["prediction"]).to_numpy()
        for name, table in predictions.items()
    }
    pairs = list(combinations(correct, 2))
    accuracies = [paired_difference(correct[first], correct[second]) for first, second in pairs]
    adjusted = holm([accuracy.p_value for accuracy in accuracies])
    return [
        Difference(first, second, accuracy, p_value)
        for (first, second), accuracy, p_value in zip(pairs, accuracies, adjusted, strict=True)
    ]


def rows(table: pd.DataFrame) -> list[list[str]]:
    """The comparison for people: rows of a title and a cell for each approach.

    Published figures stand in brackets beside ours.

    Args:
        table: by :func:`summary`.
    """
    shown: dict[str, Callable[[Row], str]] = {
        "": lambda row: label(row["approach"]),
        "weights at the start": _weights_at_the_start,
        "trainable / total parameters": (
            "{trainable:,} ({trainable_fraction:.1%}) / {parameters:,}".format_map
        ),
        "learning rates": "{learning_rates}".format_map,
    }
    for key, title in SETTINGS.items():
        if key in table:
            shown[title] = partial(_setting, key=key)
    shown |= {
        "validation accuracy": lambda row: _beside_published(row, "val_accuracy", ".1%"),
        "validation loss, not calibrated": lambda row: _beside_published(row, "val_loss", ".4f"),
        "test accuracy": lambda row: _beside_published(row, "test_accuracy", ".1%"),
        "95 % interval": "{test_accuracy_low:.1%} to {test_accuracy_high:.1%}".format_map,
        "test top-5 accuracy": "{test_top5_accuracy:.1%}".format_map,
        "test balanced accuracy": "{test_balanced_accuracy:.1%}".format_map,
        "test loss, calibrated": "{test_loss:.4f}".format_map,
    }
    records = table.to_dict("records")
    return [[title, *(show(record) for record in records)] for title, show in shown.items()]


def _weights_at_the_start(row: Row) -> str:
    return "pretrained backbone" if row["initial"] == "backbone" else "random initialisation"


def _setting(row: Row, key: str) -> str:
    value = row[key]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _beside_published(row: Row, column: str, form: str) -> str:
    """The value of a column and, in brackets, the published figure if there is one."""
    value = f"{row[column]:{form}}"
    published = row.get(f"published_{column}")
    if published is None or pd.isna(published):
        return value
    return f"{value} ({published:{form}})"


def notes(table: pd.DataFrame, pairs: list[Difference], largest: float) -> list[str]:
    """Sentences below the comparison: test images, baseline accuracy, each difference.

    Args:
        table: by :func:`summary`.
        pairs: by :func:`differences`.
        largest: share of the test images that the largest class has, a fraction.
    """
    n_test = table["n_test"].iloc[0]
    first = f"Test split: {n_test:,} images; always guessing its largest class gets {largest:.1%}."
    if any(str(column).startswith("published_") for column in table):
        first += " In brackets: the published figures."
    adjusted = f", after Holm for {len(pairs)} tests" if len(pairs) > 1 else ""
    lines = [first]
    for pair in pairs:
        found = pair.accuracy
        p_value = "< 0.0001" if pair.p_value_holm < 1e-4 else f"= {pair.p_value_holm:.4f}"
        lines.append(
            f"{label(pair.second)} minus {label(pair.first)}: "
            f"{100 * found.difference:+.1f} points of test accuracy "
            f"(95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}; "
            f"McNemar's exact test on {found.only_first} against {found.only_second} images, "
            f"p {p_value}{adjusted})."
        )
    return lines


def markdown(rows: list[list[str]], notes: list[str]) -> str:
    """The comparison as Markdown, the row of test accuracy in bold."""
    lines = []
    for row in rows:
        cells = [f"**{cell}**" for cell in row] if row[0] == "test accuracy" else row
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def confusion(predictions: pd.DataFrame, per_class: pd.DataFrame) -> pd.DataFrame:
    """The cells of a confusion matrix that hold images, and its whole diagonal.

    Args:
        predictions: of one approach: columns label, prediction.
        per_class: of the same approach: columns label, class.

    Returns:
        One row per cell in the order of the classes: label and prediction (numbers), n (images),
        fraction (of the images of the label; 0 where it has none), class and predicted (names).
    """
    cells = predictions.groupby(["label", "prediction"]).size()
    classes = range(1 + int(predictions[["label", "prediction"]].to_numpy().max()))
    diagonal = pd.MultiIndex.from_arrays([classes, classes], names=cells.index.names)
    every = cells.reindex(cells.index.union(diagonal), fill_value=0)
    table = every.rename("n").reset_index()
    totals = table.groupby("label")["n"].transform("sum")
    table["fraction"] = table["n"] / totals.clip(lower=1)
    names = {class_id: str(class_id) for class_id in classes}
    names |= dict(zip(per_class["label"], per_class["class"], strict=True))
    table["class"] = table["label"].map(names)
    table["predicted"] = table["prediction"].map(names)
    return table


def curves(history: pd.DataFrame) -> pd.DataFrame:
    """A history with one row per split (train or val) and epoch: split, epoch, loss, accuracy."""
    tables = []
    for split in ("train", "val"):
        table = history[["epoch", f"{split}_loss", f"{split}_accuracy"]]
        table = table.set_axis(["epoch", "loss", "accuracy"], axis=1)
        table.insert(0, "split", split)
        tables.append(table)
    return pd.concat(tables)


def concatenated(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of all approaches as one, with the column approach, for `dvc plots`."""
    return pd.concat(tables, names=["approach"]).reset_index("approach")
