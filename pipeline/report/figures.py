"""The figures, as PNG files whose bytes depend on nothing but the data (and Matplotlib's version)."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.report.comparison import label

matplotlib.rcdefaults()  # whatever a matplotlibrc says
matplotlib.use("Agg")  # no display, the same renderer everywhere
COLOURS = [plt.colormaps["tab10"](number) for number in range(10)]
plt.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.3,
        "font.family": "DejaVu Sans",  # comes with Matplotlib
        "font.size": 10,
    }
)


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG, without the version note that Matplotlib puts in, and close it."""
    figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)


def training_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss and accuracy by epoch, side by side; one colour an approach, dashed for training, solid for validation."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for colour, (name, history) in zip(COLOURS * 10, histories.items(), strict=False):
        for axis, quantity in zip(axes, ("loss", "accuracy"), strict=True):
            axis.plot(history["epoch"], history[f"train_{quantity}"], "--", color=colour, alpha=0.6)
            axis.plot(history["epoch"], history[f"val_{quantity}"], "-", color=colour, label=label(name))
    for axis, title in zip(axes, ("Loss (cross-entropy)", "Accuracy"), strict=True):
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 1)
    axes[1].yaxis.set_major_formatter(PercentFormatter(1))
    lines = axes[1].get_legend_handles_labels()[0]
    lines += [Line2D([], [], color="grey", label="validation"), Line2D([], [], color="grey", ls="--", label="training")]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)
    return figure


def comparison(table: pd.DataFrame) -> Figure:
    """Validation and test accuracy of each approach, test with its 95 % interval, published figures as diamonds."""
    figure, axis = plt.subplots(figsize=(2 + 2.2 * len(table), 4), layout="constrained")
    places = np.arange(len(table))
    interval = abs(table[["test_accuracy_low", "test_accuracy_high"]].to_numpy().T - table["test_accuracy"].to_numpy())
    bars = {"val_accuracy": (-0.2, COLOURS[7], None), "test_accuracy": (0.2, COLOURS[0], interval)}
    for column, (shift, colour, errors) in bars.items():
        values = table[column].to_numpy()
        title = {"val_accuracy": "validation", "test_accuracy": "test, with 95 % interval"}[column]
        axis.bar(places + shift, values, 0.38, color=colour, yerr=errors, capsize=4, label=title)
        for place, value in zip(places + shift, values, strict=True):
            axis.text(place, value / 2, f"{value:.1%}", ha="center", va="center", color="white", weight="bold")
        if f"published_{column}" in table:
            mark = "published" if shift < 0 else None
            axis.plot(places + shift, table[f"published_{column}"], "D", color="black", ms=5, zorder=3, label=mark)
    axis.set_xticks(places, [label(name) for name in table["approach"]])
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_ylabel("accuracy")
    axis.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def confusion(predictions: Mapping[str, pd.DataFrame]) -> Figure:
    """Confusion matrices: rows are true classes, each row sums to 1; a perfect model is a black diagonal."""
    figure, axes = plt.subplots(
        1, len(predictions), figsize=(1 + 4.6 * len(predictions), 4.6), layout="constrained", squeeze=False
    )
    classes = 1 + max(table["label"].max() for table in predictions.values())
    for axis, (name, table) in zip(axes[0], predictions.items(), strict=True):
        counts = np.zeros((classes, classes))
        np.add.at(counts, (table["label"], table["prediction"]), 1)
        image = axis.imshow(
            counts / counts.sum(1, keepdims=True), cmap="Greys", vmin=0, vmax=1, interpolation="nearest"
        )
        axis.set(title=label(name), xlabel="predicted class", ylabel="true class")
        axis.grid(visible=False)
        for direction in (axis.xaxis, axis.yaxis):
            direction.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=axes, label="fraction of the true class", shrink=0.8)
    return figure


def per_class(tables: Mapping[str, pd.DataFrame], hardest: int = 20) -> Figure:
    """Test accuracy of the classes that are hardest on average, one dot an approach."""
    accuracy = pd.DataFrame({name: table.set_index("class")["accuracy"] for name, table in tables.items()})
    total = len(accuracy)
    accuracy = accuracy.loc[accuracy.mean(axis=1).sort_values(kind="stable").index[:hardest]][::-1]
    title = f"The {hardest} hardest of {total} classes" if hardest < total else f"All {total} classes"
    figure, axis = plt.subplots(figsize=(7, 1.2 + 0.27 * len(accuracy)), layout="constrained")
    axis.hlines(range(len(accuracy)), accuracy.min(axis=1), accuracy.max(axis=1), color="lightgrey", zorder=1)
    for colour, name in zip(COLOURS * 10, accuracy, strict=False):
        axis.plot(accuracy[name], range(len(accuracy)), "o", color=colour, label=label(str(name)))
    axis.set_yticks(range(len(accuracy)), accuracy.index)
    axis.set(xlim=(-0.02, 1.02), xlabel="test accuracy", title=title)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def sample_grid(images: np.ndarray, names: list[str]) -> Figure:
    """Images with their class names, six a row. images: uint8 [n, height, width, 3]."""
    rows = -(-len(images) // 6)
    figure, axes = plt.subplots(rows, 6, figsize=(11, 2.1 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, name in zip(axes.flat, images, names, strict=False):
        axis.imshow(image)
        axis.set_title(name, fontsize=9)
    return figure


def top_classes(image: np.ndarray, title: str, table: pd.DataFrame) -> Figure:
    """An image beside what the network takes it for. table: columns ``class`` and ``probability`` (fraction)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", width_ratios=(1, 1.6))
    left.imshow(image)
    left.axis("off")
    left.set_title(title)
    right.barh(table["class"], table["probability"], color=COLOURS[0])
    right.invert_yaxis()
    for place, value in enumerate(table["probability"]):
        right.text(value + 0.01, place, f"{value:.1%}", va="center")
    right.set(xlim=(0, 1.12), xlabel="probability", title="The backbone before any training")
    right.xaxis.set_major_formatter(PercentFormatter(1))
    right.grid(axis="y", visible=False)
    return figure


def few_images(table: pd.DataFrame) -> Figure:
    """Test accuracy by training images per class: mean of the seeds, and a band from the lowest to the highest.

    Args:
        table: columns images_per_class, seed, approach, test_accuracy (a fraction).
    """
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for colour, (name, rows) in zip(COLOURS * 10, table.groupby("approach", sort=False), strict=False):
        spread = rows.groupby("images_per_class")["test_accuracy"].agg(["mean", "min", "max"])
        axis.plot(spread.index, spread["mean"], "o-", color=colour, label=label(str(name)))
        axis.fill_between(spread.index, spread["min"], spread["max"], color=colour, alpha=0.2, lw=0)
    counts = sorted(table["images_per_class"].unique())
    axis.set_xscale("log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.set(xlabel="training images per class", ylabel="test accuracy", ylim=(0, 1))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(loc="lower right", frameon=False)
    return figure
