"""Figures of images, and of what the backbone predicts for one before any training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.figures.style import GREY, wrapped


def sample_rows(labels: np.ndarray, count: int) -> list[int]:
    """Rows of the first image of each of ``count`` classes, evenly spread over those present.

    Args:
        labels: int [n], of the images of a split.
    """
    present = np.unique(labels)
    places = np.linspace(0, len(present) - 1, min(count, len(present))).round().astype(int)
    return [int(np.flatnonzero(labels == class_id)[0]) for class_id in present[places]]


def sample_grid(images: np.ndarray, names: list[str]) -> Figure:
    """Images with the names of their classes, six a row.

    Args:
        images: uint8 [n, height, width, 3].
    """
    rows = -(-len(images) // 6)
    figure = Figure(figsize=(11, 2.15 * rows), layout="constrained")
    panels = figure.subplots(rows, 6, squeeze=False).flatten()
    for axes in panels:
        axes.axis("off")
    for axes, image, name in zip(panels, images, names, strict=False):
        axes.imshow(image)
        axes.set_title(wrapped(name, 26), fontsize=9)
    return figure


def top_classes(image: np.ndarray, title: str, table: pd.DataFrame) -> Figure:
    """An image beside the classes that the network predicts for it.

    Args:
        image: uint8 [height, width, 3].
        table: columns class (name) and probability (a fraction).
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    left.imshow(image)
    left.axis("off")
    left.set_title(wrapped(title, 36), fontsize=10)
    right.set_title("The backbone before any training")
    _draw_probabilities(right, table)
    return figure


def probabilities(table: pd.DataFrame) -> Figure:
    """The right half of :func:`top_classes`, for a page that shows the image itself."""
    figure = Figure(figsize=(8, 1 + 0.4 * len(table)), layout="constrained")
    _draw_probabilities(figure.subplots(), table)
    return figure


def _draw_probabilities(axes: Axes, table: pd.DataFrame) -> None:
    places = range(len(table))
    axes.barh(places, table["probability"], color=GREY)
    axes.set_yticks(places, [wrapped(name, 24) for name in table["class"]])
    axes.invert_yaxis()
    for place, value in zip(places, table["probability"], strict=True):
        axes.text(1.02, place, f"{value:.1%}", va="center", transform=axes.get_yaxis_transform())
    axes.set(xlim=(0, 1), xlabel="probability")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", visible=False)
