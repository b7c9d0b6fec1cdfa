"""The comparison of the approaches: one table, and the statistics of each pair."""

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.report.confidence import accuracy_interval, paired_difference

if TYPE_CHECKING:
    from pipeline.report.params import Published
    from pipeline.training.params import Approach


def label(name: str) -> str:
    """An approach's name, for people."""
    return name.replace("fine_tuning", "fine-tuning").replace("_", " ")


def dataset_summary(index: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Number of classes, and for each split the number of images, in all and of the smallest and largest class.

    Args:
        index: as in pipeline/data/raw.py.
    """
    summary: dict[str, Any] = {"classes": len(classes)}
    for split in index["split"].unique():
        counts = index.loc[index["split"] == split, "label"].value_counts()
        sizes = {"images": counts.sum(), "fewest_of_a_class": counts.min(), "most_of_a_class": counts.max()}
        summary[split] = {name: int(size) for name, size in sizes.items()}
    return summary


def summary(
    approaches: Mapping[str, "Approach"], metrics: Mapping[str, Any], published: Mapping[str, "Published"]
) -> pd.DataFrame:
    """One row an approach: parameters, learning rates, accuracies (fractions), losses (nats), published figures."""
    rows = []
    for name, approach in approaches.items():
        test, val, parameters = metrics[name]["test"], metrics[name]["val"], metrics[name]["parameters"]
        low, high = accuracy_interval(round(test["accuracy"] * test["n"]), test["n"])
        row = {
            "approach": name,
            "initial": approach.initial,
            "input": approach.input,
            "parameters": parameters["total"],
            "trainable": parameters["trainable"],
            "trainable_fraction": parameters["trainable"] / parameters["total"],
            "learning_rates": ", ".join(f"{module} {rate:g}" for module, rate in approach.learning_rates.items()),
            "val_accuracy": val["accuracy"],
            "val_loss": val["loss"],
            "test_accuracy": test["accuracy"],
            "test_accuracy_low": low,
            "test_accuracy_high": high,
            "test_top5_accuracy": test["top5_accuracy"],
            "test_balanced_accuracy": test["balanced_accuracy"],
            "test_loss": test["loss"],
            "n_test": test["n"],
        }
        if name in published:
            row |= {f"published_{key}": value for key, value in published[name].model_dump().items()}
        rows.append(row)
    return pd.DataFrame(rows)


def differences(predictions: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The paired difference of every two approaches on the test images, second minus first."""
    first_ids = next(iter(predictions.values()))["id"]
    assert all(table["id"].equals(first_ids) for table in predictions.values()), "predictions of different images"
    correct = {name: (table["label"] == table["prediction"]).to_numpy() for name, table in predictions.items()}
    return [
        {"first": first, "second": second} | paired_difference(correct[first], correct[second])
        for first, second in combinations(correct, 2)
    ]


def markdown(table: pd.DataFrame, pairs: list[dict[str, Any]]) -> str:
    """The comparison for people: an approach is a column, published figures stand in brackets beside ours."""

    def cell(row: Any, column: str, form: str) -> str:
        published = row.get(f"published_{column}")
        beside = f" ({published:{form}})" if published is not None and not pd.isna(published) else ""
        return f"{row[column]:{form}}{beside}"

    rows = {
        "weights at the start": lambda row: (
            "pretrained backbone" if row["initial"] == "backbone" else "random initialisation"
        ),
        "trained on": lambda row: "pixels" if row["input"] == "pixels" else f"the output of {row['input']}",
        "trainable / total parameters": lambda row: (
            f"{row['trainable']:,} ({row['trainable_fraction']:.1%}) / {row['parameters']:,}"
        ),
        "learning rates": lambda row: row["learning_rates"],
        "validation accuracy": lambda row: cell(row, "val_accuracy", ".1%"),
        "final validation loss": lambda row: cell(row, "val_loss", ".4f"),
        "**test accuracy**": lambda row: f"**{cell(row, 'test_accuracy', '.1%')}**",
        "95 % interval": lambda row: f"{row['test_accuracy_low']:.1%} to {row['test_accuracy_high']:.1%}",
        "test top-5 accuracy": lambda row: f"{row['test_top5_accuracy']:.1%}",
        "test balanced accuracy": lambda row: f"{row['test_balanced_accuracy']:.1%}",
        "test loss": lambda row: f"{row['test_loss']:.4f}",
    }
    columns = table.to_dict("records")
    lines = ["| | " + " | ".join(label(row["approach"]) for row in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    lines += [f"| {title} | " + " | ".join(show(row) for row in columns) + " |" for title, show in rows.items()]
    lines += ["", f"Test split: {columns[0]['n_test']:,} images."]
    if any(str(column).startswith("published_") for column in table):
        lines[-1] += " In brackets: the published figures."
    for pair in pairs:
        p_value = "< 0.0001" if pair["p_value"] < 1e-4 else f"= {pair['p_value']:.4f}"
        lines.append(
            f"\n{label(pair['second'])} minus {label(pair['first'])}: "
            f"{100 * pair['difference']:+.1f} points of test accuracy "
            f"(95 % interval {100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}; "
            f"McNemar's exact test on {pair['only_first']} against {pair['only_second']} images, "
            f"p {p_value})."
        )
    return "\n".join(lines) + "\n"


def curves(histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All histories below one another, for `dvc plots`: approach, split (train or val), epoch, loss, accuracy."""
    parts = []
    for name, history in histories.items():
        for split in ("train", "val"):
            columns = {quantity: history[f"{split}_{quantity}"] for quantity in ("loss", "accuracy")}
            parts.append(pd.DataFrame({"approach": name, "split": split, "epoch": history["epoch"]} | columns))
    return pd.concat(parts, ignore_index=True)
