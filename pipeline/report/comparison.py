"""The comparison of the approaches: one table, and the statistics of each pair."""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import pandas as pd

from pipeline.report.confidence import accuracy_interval, holm, paired_difference
from pipeline.report.params import Published
from pipeline.report.style import label
from pipeline.training.params import Approach


def summary(
    approaches: Mapping[str, Approach], metrics: Mapping[str, Any], published: Mapping[str, Published]
) -> pd.DataFrame:
    """One row an approach: parameters, learning rates, accuracies (fractions), losses (nats), published figures."""
    rows = []
    for name, approach in approaches.items():
        test, val, parameters = metrics[name]["test"], metrics[name]["val"], metrics[name]["parameters"]
        low, high = accuracy_interval(round(test["accuracy"] * test["n"]), test["n"])
        rows.append(
            {"approach": name, "initial": approach.initial, "input": approach.input}
            | {"parameters": parameters["total"], "trainable": parameters["trainable"]}
            | {"trainable_fraction": parameters["trainable"] / parameters["total"]}
            | {"learning_rates": ", ".join(f"{module} {rate:g}" for module, rate in approach.learning_rates.items())}
            | {f"val_{key}": val[key] for key in ("accuracy", "loss")}
            | {"test_accuracy": test["accuracy"], "test_accuracy_low": low, "test_accuracy_high": high}
            | {f"test_{key}": test[key] for key in ("top5_accuracy", "balanced_accuracy", "loss")}
            | {"n_test": test["n"]}
            | (
                {f"published_{key}": value for key, value in published[name].model_dump().items()}
                if name in published
                else {}
            )
        )
    return pd.DataFrame(rows)


def differences(predictions: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The paired difference of every two approaches on the test images, second minus first; p-values after Holm."""
    first_ids = next(iter(predictions.values()))["id"]
    assert all(table["id"].equals(first_ids) for table in predictions.values()), "predictions of different images"
    correct = {name: (table["label"] == table["prediction"]).to_numpy() for name, table in predictions.items()}
    pairs: list[dict[str, Any]] = [
        {"first": first, "second": second} | paired_difference(correct[first], correct[second])
        for first, second in combinations(correct, 2)
    ]
    adjusted = holm([float(pair["p_value"]) for pair in pairs])
    return [pair | {"p_value_holm": value} for pair, value in zip(pairs, adjusted, strict=True)]


def rows(table: pd.DataFrame) -> list[list[str]]:
    """The comparison for people: a title and a cell for each approach; published figures stand in brackets beside ours.

    Args:
        table: by :func:`summary`.
    """

    def cell(row: Any, column: str, form: str) -> str:
        published = row.get(f"published_{column}")
        beside = f" ({published:{form}})" if published is not None and not pd.isna(published) else ""
        return f"{row[column]:{form}}{beside}"

    def start(row: Any) -> str:
        return "pretrained backbone" if row["initial"] == "backbone" else "random initialisation"

    def inputs(row: Any) -> str:
        return str(row["input"]) if row["input"].startswith("pixels") else f"the output of {row['input']}"

    shown: dict[str, Callable[[Any], str]] = {
        "": lambda row: label(row["approach"]),
        "weights at the start": start,
        "trained on": inputs,
        "trainable / total parameters": "{trainable:,} ({trainable_fraction:.1%}) / {parameters:,}".format_map,
        "learning rates": "{learning_rates}".format_map,
        "validation accuracy": lambda row: cell(row, "val_accuracy", ".1%"),
        "final validation loss": lambda row: cell(row, "val_loss", ".4f"),
        "test accuracy": lambda row: cell(row, "test_accuracy", ".1%"),
        "95 % interval": "{test_accuracy_low:.1%} to {test_accuracy_high:.1%}".format_map,
        "test top-5 accuracy": "{test_top5_accuracy:.1%}".format_map,
        "test balanced accuracy": "{test_balanced_accuracy:.1%}".format_map,
        "test loss": "{test_loss:.4f}".format_map,
    }
    return [[title, *(show(row) for row in table.to_dict("records"))] for title, show in shown.items()]


def notes(table: pd.DataFrame, pairs: list[dict[str, Any]], largest: float) -> list[str]:
    """Sentences below the comparison: how many images, what guessing gets, how sure each difference is.

    Args:
        pairs: by :func:`differences`.
        largest: share of the test images that the largest class has, a fraction.
    """
    lines = [f"Test split: {table['n_test'].iloc[0]:,} images; always guessing its largest class gets {largest:.1%}."]
    if any(str(column).startswith("published_") for column in table):
        lines[0] += " In brackets: the published figures."
    for pair in pairs:
        p_value = "< 0.0001" if pair["p_value_holm"] < 1e-4 else f"= {pair['p_value_holm']:.4f}"
        lines.append(
            f"{label(pair['second'])} minus {label(pair['first'])}: "
            f"{100 * pair['difference']:+.1f} points of test accuracy "
            f"(95 % interval {100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}; "
            f"McNemar's exact test on {pair['only_first']} against {pair['only_second']} images, "
            f"p {p_value}{f', after Holm for {len(pairs)} tests' if len(pairs) > 1 else ''})."
        )
    return lines


def markdown(rows: list[list[str]], notes: list[str]) -> str:
    """The comparison as Markdown, the row of test accuracy in bold."""
    bold = [[f"**{cell}**" for cell in row] if row[0] == "test accuracy" else row for row in rows]
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in bold]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def confusion(predictions: pd.DataFrame, per_class: pd.DataFrame) -> pd.DataFrame:
    """The cells of a confusion matrix that hold images, and its whole diagonal, in the order of the classes.

    Args:
        predictions, per_class: of one approach, as :mod:`pipeline.training.evaluation` makes them.

    Returns:
        One row a cell: label and prediction (numbers), class and predicted (names), n (images), fraction (of the
        images of the label; 0 where it has none).
    """
    cells = predictions.groupby(["label", "prediction"]).size()
    classes = range(1 + int(predictions[["label", "prediction"]].to_numpy().max()))
    names = {number: str(number) for number in classes} | dict(zip(per_class["label"], per_class["class"], strict=True))
    diagonal = pd.MultiIndex.from_arrays([classes, classes], names=cells.index.names)
    table = cells.reindex(cells.index.union(diagonal), fill_value=0).rename("n").reset_index()
    table["fraction"] = table["n"] / table.groupby("label")["n"].transform("sum").clip(lower=1)
    return table.assign(**{"class": table["label"].map(names), "predicted": table["prediction"].map(names)})


def together(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of all approaches below one another, for `dvc plots`."""
    return pd.concat(tables, names=["approach"]).reset_index("approach")


def curves(history: pd.DataFrame) -> pd.DataFrame:
    """A history with a row for each split (train or val) and epoch: split, epoch, loss, accuracy."""
    return pd.concat(
        history[["epoch", f"{split}_loss", f"{split}_accuracy"]]
        .set_axis(["epoch", "loss", "accuracy"], axis=1)
        .assign(split=split)[["split", "epoch", "loss", "accuracy"]]
        for split in ("train", "val")
    )
