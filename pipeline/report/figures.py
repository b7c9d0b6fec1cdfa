"""The figures: each function returns one, which style.py writes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.report.style import GREY, colours, label, markers, wrapped


def training_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss and accuracy by epoch, side by side; one colour an approach, dashed for training, solid for validation."""
    texts = {name: wrapped(label(name), 24) for name in histories}
    heights = pd.Series({name: 0.19 * (1 + text.count("\n")) for name, text in texts.items()})  # inches
    inside = max(2.8, heights.sum())
    figure = Figure(figsize=(10, inside + 1.3), layout="constrained")
    axes = figure.subplots(1, 2)
    colour, marker = colours(histories), markers(histories)
    for name, history in histories.items():
        style: dict[str, Any] = {"color": colour[name], "clip_on": False, "zorder": 3}
        marks: dict[str, Any] = {"marker": marker[name], "ms": 3.5, "markevery": 1 + len(history) // 20}
        for axis, quantity in zip(axes, ("loss", "accuracy"), strict=True):
            axis.plot(history["epoch"], history[f"train_{quantity}"], "--", alpha=0.6, **style)
            axis.plot(history["epoch"], history[f"val_{quantity}"], **marks, **style)
    for axis, title in zip(axes, ("Loss (cross-entropy)", "Accuracy"), strict=True):
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 1)
    axes[1].yaxis.set_major_formatter(PercentFormatter(1))

    # Each approach's name right of the end of its validation line, moved up or down so that none overlap.
    ends = pd.DataFrame({name: history.iloc[-1] for name, history in histories.items()}).T.sort_values("val_accuracy")
    steps = (heights[ends.index].cumsum() - heights[ends.index] / 2) / inside
    places = np.maximum.accumulate(ends["val_accuracy"] - steps) + steps
    places = np.minimum(places, 1 - steps.iloc[-1] + steps)
    for name, place in places.items():
        axes[1].annotate(
            texts[name],
            ends.loc[name, ["epoch", "val_accuracy"]],
            xytext=(1.05, place),
            textcoords=axes[1].get_yaxis_transform(),
            va="center",
            color=colour[name],
            arrowprops={"arrowstyle": "-", "color": colour[name], "lw": 0.8, "relpos": (0, 0.5)},
            annotation_clip=False,
        )
    lines = [Line2D([], [], color=GREY, ls=ls, label=split) for ls, split in (("-", "validation"), ("--", "training"))]
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


def comparison(table: pd.DataFrame) -> Figure:
    """Validation and test accuracy of each approach, test with its 95 % interval, published figures as diamonds."""
    figure = Figure(figsize=(8, 1 + 0.75 * len(table)), layout="constrained")
    axis = figure.subplots()
    colour = list(colours(table["approach"]).values())
    for column, split, shift, alpha in (("val_accuracy", "validation", -0.2, 0.4), ("test_accuracy", "test", 0.2, 1)):
        places = np.arange(len(table)) + shift
        axis.barh(places, table[column], 0.36, color=colour, alpha=alpha)
        for place, value in zip(places, table[column], strict=True):
            axis.text(1.02, place, f"{value:.1%} {split}", va="center", transform=axis.get_yaxis_transform())
        if f"published_{column}" in table:
            mark = "published" if split == "test" else None
            axis.plot(table[f"published_{column}"], places, "D", color="black", mfc="none", ms=6, label=mark)
    interval = abs(table[["test_accuracy_low", "test_accuracy_high"]].T - table["test_accuracy"]).to_numpy()
    black: dict[str, Any] = {"fmt": "none", "ecolor": "black", "capsize": 3}
    axis.errorbar(table["test_accuracy"], places, xerr=interval, label="95 % interval", **black)
    axis.set_yticks(range(len(table)), [wrapped(label(name), 24) for name in table["approach"]])
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="accuracy")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def confusion(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Confusion matrices, three a row: rows are true classes, each sums to 1; a perfect model is a full diagonal.

    Args:
        tables: of each approach, as :func:`pipeline.report.comparison.confusion` makes them.
    """
    classes = 1 + max(table["label"].max() for table in tables.values())
    block = 1 + classes // 400  # of more classes a cell could not be seen: it has the largest of some cells
    side = -(-classes // block)
    extent = (-0.5, side * block - 0.5, side * block - 0.5, -0.5)
    named = classes <= 30  # else there is room for numbers only
    figure, axes = _panels(len(tables), 5, 4.6)
    for axis, (name, table) in zip(axes, tables.items(), strict=False):
        fraction = np.zeros((side, side))
        np.maximum.at(fraction, (table["label"] // block, table["prediction"] // block), table["fraction"])
        colour = colours(tables)[name]
        shades = LinearSegmentedColormap.from_list(name, [(colour, 0), (colour, 1)])  # from transparent
        image = axis.imshow(fraction, cmap=shades, norm=PowerNorm(0.5, 0, 1), extent=extent)
        axis.set(title=wrapped(label(name), 40), xlabel="predicted class", ylabel="true class")
        axis.grid(visible=False)
        bar = figure.colorbar(image, ax=axis, label="images of the true class", shrink=0.85, format=PercentFormatter(1))
        bar.set_ticks([0, 0.05, 0.2, 0.5, 1])
        for direction in (axis.xaxis, axis.yaxis):
            direction.set_major_locator(MaxNLocator(integer=True))
        if named:
            names = [wrapped(text, 20, 1) for text in table[table["label"] == table["prediction"]]["class"]]
            axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            axis.set_yticks(range(len(names)), names, fontsize=8)
    return figure


def per_class(tables: Mapping[str, pd.DataFrame], hardest: int = 20) -> Figure:
    """Test accuracy of the classes that are hardest on average, one dot an approach."""
    accuracy = pd.DataFrame({name: table.set_index("class")["accuracy"] for name, table in tables.items()})
    total = len(accuracy)
    accuracy = accuracy.loc[accuracy.mean(axis=1).sort_values(kind="stable").index[:hardest]]
    figure = Figure(figsize=(8, 1.4 + 0.27 * len(accuracy) + 0.07 * len(tables)), layout="constrained")
    axis = figure.subplots()
    places = range(len(accuracy))
    axis.hlines(places, accuracy.min(axis=1), accuracy.max(axis=1), color=GREY, alpha=0.5, zorder=1)
    for name in tables:
        style: dict[str, Any] = {"color": colours(tables)[name], "clip_on": False}
        axis.plot(accuracy[name], places, markers(tables)[name], label=wrapped(label(name), 28, 1), **style)
    axis.set_yticks(places, [wrapped(name, 40, 1) for name in accuracy.index])
    axis.set_ylim(len(accuracy) - 0.5, -0.5)
    title = f"The {hardest} hardest of {total} classes" if hardest < total else f"All {total} classes"
    axis.set(xlim=(0, 1), xlabel="test accuracy", title=title)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def sample_grid(images: np.ndarray, names: list[str]) -> Figure:
    """Images with their class names, six a row. images: uint8 [n, height, width, 3]."""
    rows = -(-len(images) // 6)
    figure = Figure(figsize=(11, 2.15 * rows), layout="constrained")
    axes = figure.subplots(rows, 6, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, name in zip(axes.flat, images, names, strict=False):
        axis.imshow(image)
        axis.set_title(wrapped(name, 26), fontsize=9)
    return figure


def top_classes(image: np.ndarray, title: str, table: pd.DataFrame) -> Figure:
    """An image beside what the network takes it for. table: columns ``class`` and ``probability`` (fraction)."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    left.imshow(image)
    left.axis("off")
    left.set_title(wrapped(title, 36), fontsize=10)
    right.set_title("The backbone before any training")
    _bars(right, table)
    return figure


def probabilities(table: pd.DataFrame) -> Figure:
    """What the network takes an image for. table: columns ``class`` and ``probability`` (fraction)."""
    figure = Figure(figsize=(8, 1 + 0.4 * len(table)), layout="constrained")
    _bars(figure.subplots(), table)
    return figure


def _bars(axis: Axes, table: pd.DataFrame) -> None:
    places = range(len(table))
    axis.barh(places, table["probability"], color=GREY)
    axis.set_yticks(places, [wrapped(name, 24) for name in table["class"]])
    axis.invert_yaxis()
    for place, value in zip(places, table["probability"], strict=True):
        axis.text(1.02, place, f"{value:.1%}", va="center", transform=axis.get_yaxis_transform())
    axis.set(xlim=(0, 1), xlabel="probability")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.grid(axis="y", visible=False)


def few_images(table: pd.DataFrame) -> Figure:
    """Test accuracy by training images per class: mean of the seeds, and a band from the lowest to the highest.

    Args:
        table: columns images_per_class, seed, approach, test_accuracy (a fraction).
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis, names = figure.subplots(), table["approach"].unique()
    for name, rows in table.groupby("approach", sort=False):
        spread = rows.groupby("images_per_class")["test_accuracy"].agg(["mean", "min", "max"])
        style: dict[str, Any] = {"color": colours(names)[str(name)]}
        axis.plot(spread.index, spread["mean"], f"{markers(names)[str(name)]}-", label=label(str(name)), **style)
        axis.fill_between(spread.index, spread["min"], spread["max"], alpha=0.25, lw=0, **style)
    counts = sorted(table["images_per_class"].unique())
    axis.set_xscale("log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.set(xlabel="training images per class", ylabel="test accuracy", ylim=(0, 1))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(loc="lower right")
    return figure


def reliability(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy against confidence on the test images, a panel an approach; a calibrated model lies on the diagonal.

    Args:
        tables: of each approach, as :func:`pipeline.training.evaluation.reliability` makes them.
    """
    figure, axes = _panels(len(tables), 3.2, 3.4)
    for axis, (name, table) in zip(axes, tables.items(), strict=False):
        axis.plot([0, 1], [0, 1], color=GREY, lw=1)
        middle, width = (table["low"] + table["high"]) / 2, table["high"] - table["low"]
        axis.bar(middle, table["accuracy"], width * 0.9, color=colours(tables)[name])
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=wrapped(label(name), 28))
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


def _panels(count: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of ``count`` panels of that size (inches), three a row, and their axes."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(0.5 + width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes
