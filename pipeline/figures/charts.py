"""Charts of what the approaches achieve. Each function returns a figure; style.py writes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.figures.style import GREY, colours, label, markers, wrapped

Tables = Mapping[str, pd.DataFrame]  # a table of each approach, by its name


def training_curves(histories: Tables) -> Figure:
    """Loss and accuracy by epoch, side by side, in one colour per approach.

    Lines are dashed for training and solid for validation.

    Args:
        histories: columns epoch, train_loss, train_accuracy, val_loss, val_accuracy.
    """
    texts = {name: wrapped(label(name), 24) for name in histories}
    inches = {name: 0.19 * (1 + text.count("\n")) for name, text in texts.items()}
    heights = pd.Series(inches)
    inside = max(2.8, heights.sum())
    figure = Figure(figsize=(10, inside + 1.3), layout="constrained")
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for axes, quantity in ((loss_axes, "loss"), (accuracy_axes, "accuracy")):
        _draw_curves(axes, quantity, histories)
    loss_axes.set_title("Loss (cross-entropy)")
    loss_axes.set_ylim(bottom=0)
    accuracy_axes.set_title("Accuracy")
    accuracy_axes.set_ylim(0, 1)
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1))
    _name_curves(accuracy_axes, histories, texts, heights / inside)
    lines = [
        Line2D([], [], color=GREY, linestyle="-", label="validation"),
        Line2D([], [], color=GREY, linestyle="--", label="training"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


def _draw_curves(axes: Axes, quantity: str, histories: Tables) -> None:
    colour = colours(histories)
    marker = markers(histories)
    for name, history in histories.items():
        line: dict[str, Any] = {"color": colour[name], "clip_on": False, "zorder": 3}
        axes.plot(history["epoch"], history[f"train_{quantity}"], "--", alpha=0.6, **line)
        axes.plot(
            history["epoch"],
            history[f"val_{quantity}"],
            marker=marker[name],
            markersize=3.5,
            markevery=1 + len(history) // 20,
            **line,
        )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _name_curves(
    axes: Axes, histories: Tables, texts: Mapping[str, str], heights: pd.Series
) -> None:
    """Write each approach's name right of the end of its validation line, none over another.

    Args:
        heights: of the texts, as fractions of the height of the axes.
    """
    colour = colours(histories)
    last_epochs = pd.DataFrame({name: history.iloc[-1] for name, history in histories.items()}).T
    ends = last_epochs.sort_values("val_accuracy")
    # The middle of each text, where the texts stand one on another from the bottom.
    stacked = heights[ends.index].cumsum() - heights[ends.index] / 2
    # Moved up as little as possible, then down where the highest would leave the axes.
    places = np.maximum.accumulate(ends["val_accuracy"] - stacked) + stacked
    places = np.minimum(places, 1 - stacked.iloc[-1] + stacked)
    for name, place in places.items():
        axes.annotate(
            texts[name],
            ends.loc[name, ["epoch", "val_accuracy"]],
            xytext=(1.05, place),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            color=colour[name],
            arrowprops={"arrowstyle": "-", "color": colour[name], "lw": 0.8, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def comparison(table: pd.DataFrame) -> Figure:
    """Validation and test accuracy of each approach, test with its 95 % interval.

    Diamonds are published figures.

    Args:
        table: by :func:`pipeline.report.comparison.summary`.
    """
    figure = Figure(figsize=(8, 1 + 0.75 * len(table)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(table))
    _draw_accuracies(axes, table, "val_accuracy", rows - 0.2, "validation", alpha=0.4)
    _draw_accuracies(axes, table, "test_accuracy", rows + 0.2, "test", alpha=1)
    low_and_high = table[["test_accuracy_low", "test_accuracy_high"]].T
    axes.errorbar(
        table["test_accuracy"],
        rows + 0.2,
        xerr=abs(low_and_high - table["test_accuracy"]).to_numpy(),
        label="95 % interval",
        fmt="none",
        ecolor="black",
        capsize=3,
    )
    axes.set_yticks(range(len(table)), [wrapped(label(name), 24) for name in table["approach"]])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="accuracy")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _draw_accuracies(
    axes: Axes, table: pd.DataFrame, column: str, places: np.ndarray, split: str, alpha: float
) -> None:
    """A bar and its value for each approach, and the published figure where there is one."""
    colour = list(colours(table["approach"]).values())
    axes.barh(places, table[column], 0.36, color=colour, alpha=alpha)
    for place, value in zip(places, table[column], strict=True):
        axes.text(
            1.02,
            place,
            f"{value:.1%} {split}",
            va="center",
            transform=axes.get_yaxis_transform(),
        )
    if f"published_{column}" in table:
        axes.plot(
            table[f"published_{column}"],
            places,
            "D",
            color="black",
            markerfacecolor="none",
            markersize=6,
            label="published" if split == "test" else None,
        )


def confusion(tables: Tables) -> Figure:
    """Confusion matrices, three a row: rows are true classes, and each sums to 1.

    A perfect model has a full diagonal and nothing else.

    Args:
        tables: by :func:`pipeline.report.comparison.confusion`.
    """
    classes = 1 + max(table["label"].max() for table in tables.values())
    block = 1 + classes // 400  # a cell shows the largest value of block x block classes
    side = -(-classes // block)
    end = side * block - 0.5
    figure, panels = _panels(len(tables), 5, 4.6)
    for axes, (name, table) in zip(panels, tables.items(), strict=False):
        fraction = np.zeros((side, side))
        cells = (table["label"] // block, table["prediction"] // block)
        np.maximum.at(fraction, cells, table["fraction"])
        colour = colours(tables)[name]
        from_transparent = LinearSegmentedColormap.from_list(name, [(colour, 0), (colour, 1)])
        image = axes.imshow(
            fraction,
            cmap=from_transparent,
            norm=PowerNorm(0.5, 0, 1),
            extent=(-0.5, end, end, -0.5),
        )
        axes.set(title=wrapped(label(name), 40), xlabel="predicted class", ylabel="true class")
        axes.grid(visible=False)
        bar = figure.colorbar(
            image,
            ax=axes,
            label="images of the true class",
            shrink=0.85,
            format=PercentFormatter(1),
        )
        bar.set_ticks([0, 0.05, 0.2, 0.5, 1])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        if classes <= 30:  # more names than that would overlap
            diagonal = table[table["label"] == table["prediction"]]
            names = [wrapped(text, 20, 1) for text in diagonal["class"]]
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
    return figure


def per_class(tables: Tables, hardest: int = 20) -> Figure:
    """Test accuracy of the classes that are hardest on average, one dot per approach.

    Args:
        tables: columns class (name) and accuracy (a fraction).
        hardest: how many classes to show.
    """
    by_class = {name: table.set_index("class")["accuracy"] for name, table in tables.items()}
    every = pd.DataFrame(by_class)
    ranked = every.mean(axis=1).sort_values(kind="stable").index
    accuracy = every.loc[ranked[:hardest]]
    height = 1.4 + 0.27 * len(accuracy) + 0.07 * len(tables)
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    places = range(len(accuracy))
    lowest = accuracy.min(axis=1)
    highest = accuracy.max(axis=1)
    axes.hlines(places, lowest, highest, color=GREY, alpha=0.5, zorder=1)
    for name in tables:
        axes.plot(
            accuracy[name],
            places,
            markers(tables)[name],
            label=wrapped(label(name), 28, 1),
            color=colours(tables)[name],
            clip_on=False,
        )
    axes.set_yticks(places, [wrapped(name, 40, 1) for name in accuracy.index])
    axes.set_ylim(len(accuracy) - 0.5, -0.5)
    all_shown = f"All {len(every)} classes"
    some_shown = f"The {hardest} hardest of {len(every)} classes"
    axes.set_title(some_shown if hardest < len(every) else all_shown)
    axes.set(xlim=(0, 1), xlabel="test accuracy")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def reliability(tables: Tables) -> Figure:
    """Accuracy against confidence on the test images, one panel per approach.

    A calibrated model lies on the diagonal.

    Args:
        tables: by :func:`pipeline.training.calibration.reliability`.
    """
    figure, panels = _panels(len(tables), 3.2, 3.4)
    for axes, (name, table) in zip(panels, tables.items(), strict=False):
        axes.plot([0, 1], [0, 1], color=GREY, lw=1)
        middle = (table["low"] + table["high"]) / 2
        width = table["high"] - table["low"]
        colour = colours(tables)[name]
        axes.bar(middle, table["accuracy"], width * 0.9, color=colour)
        no_bar = middle[(table["n"] > 0) & (table["accuracy"] == 0)]
        if len(no_bar):  # a line of no points would have its place at the figure's corner
            axes.plot(no_bar, [0] * len(no_bar), "x", color=colour, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), title=wrapped(label(name), 28))
        axes.set(xlabel="confidence", ylabel="accuracy")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    return figure


def risk_coverage(tables: Tables) -> Figure:
    """Share of wrong answers if only the most confident ones are given, on validation images.

    Args:
        tables: by :func:`pipeline.training.calibration.risk_coverage`.
    """
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, table in tables.items():
        colour = colours(tables)[name]
        axes.step(table["coverage"], table["risk"], where="post", color=colour, label=label(name))
    axes.set(xlim=(0, 1), xlabel="share of the images with an answer", ylabel="wrong answers")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()
    return figure


def few_images(table: pd.DataFrame) -> Figure:
    """Test accuracy by training images per class.

    A line is the mean of the seeds, a band goes from the lowest to the highest.

    Args:
        table: columns images_per_class, seed, approach, test_accuracy (a fraction).
    """
    names = table["approach"].unique()
    colour = colours(names)
    marker = markers(names)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for key, rows in table.groupby("approach", sort=False):
        name = str(key)
        accuracies = rows.groupby("images_per_class")["test_accuracy"]
        spread = accuracies.agg(["mean", "min", "max"])
        line = f"{marker[name]}-"
        axes.plot(spread.index, spread["mean"], line, label=label(name), color=colour[name])
        axes.fill_between(
            spread.index, spread["min"], spread["max"], alpha=0.25, lw=0, color=colour[name]
        )
    counts = sorted(table["images_per_class"].unique())
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="training images per class", ylabel="test accuracy", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right")
    return figure


def _panels(count: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of ``count`` panels, three a row, and their axes.

    Args:
        width, height: of a panel, inches.
    """
    columns = min(3, count)
    rows = -(-count // columns)
    size = (0.5 + width * columns, height * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[count:]:
        axes.axis("off")
    return figure, panels
