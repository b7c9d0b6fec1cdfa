"""Explanations as people see them: images chosen by rules, heat laid over them, the figure."""

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from pipeline.base.files import atomic
from pipeline.explain.gradcam import heat
from pipeline.figures.style import label, save

CAPTION = """Grad-CAM: grey does not speak for the class above it,
violet does a little, pale yellow most in that image."""
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)

# Inches of the figure.
PANEL = 1.8
COLUMN, ROW = 1.9, 2.1  # from one panel to the next
LEFT, TOP, BOTTOM = 0.3, 0.55, 0.2  # margins


@dataclass(frozen=True)
class Panel:
    """One image of the figure.

    Attributes:
        image: uint8 [height, width, 3].
        title: text above it, and its colour.
        note: text across it.
    """

    image: np.ndarray
    title: str
    colour: str = "black"
    note: str = ""


def choose_images(
    predictions: Mapping[str, pd.DataFrame], mistakes: int, disagreements: int, typical: int
) -> pd.DataFrame:
    """The images to explain; none twice, fewer where there are no more, of equal ones the first.

    - mistake: the approach with the best accuracy is wrong, with the highest confidence.
    - disagreement: some approaches are right and some wrong, with the highest mean confidence.
    - typical: all approaches are right, and the mean confidence is the median of the class. The
      classes are evenly spread.

    Args:
        predictions: of each approach, on the same images: columns id, label, prediction,
            confidence.
        mistakes, disagreements, typical: how many images of each rule.

    Returns:
        The predictions for them, those for an image below one another, with further columns rule,
        row (in the split) and approach.
    """
    labels = next(iter(predictions.values()))["label"]
    correct = pd.DataFrame(
        {name: table["prediction"] == labels for name, table in predictions.items()}
    )
    confidence = pd.DataFrame({name: table["confidence"] for name, table in predictions.items()})
    mean_confidence = confidence.mean(axis=1)
    best = correct.mean().idxmax()
    some_right = correct.any(axis=1)
    all_right = correct.all(axis=1)

    wrong_rows = confidence[best][~correct[best]].nlargest(mistakes).index
    disputed = mean_confidence[some_right & ~all_right].drop(wrong_rows, errors="ignore")
    disputed_rows = disputed.nlargest(disagreements).index
    median_rows = []
    for _, confidences in mean_confidence[all_right].groupby(labels):
        ranked = confidences.sort_values(kind="stable")
        median_rows.append(ranked.index[(len(ranked) - 1) // 2])
    count = min(typical, len(median_rows))
    places = np.linspace(0, len(median_rows) - 1, count).round().astype(int)

    chosen = [("mistake", row) for row in wrong_rows]
    chosen += [("disagreement", row) for row in disputed_rows]
    chosen += [("typical", median_rows[place]) for place in places]
    images = pd.DataFrame(chosen, columns=["rule", "row"])
    tables = [
        images.join(table, on="row").assign(approach=name) for name, table in predictions.items()
    ]
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)


def overlay(image: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Heat laid over the image, which shines through in grey: uint8 [height, width, 3].

    Args:
        image: uint8 [height, width, 3].
        strength: by :func:`pipeline.explain.gradcam.heat`, float32 [height, width] in 0..1.
    """
    grey = 40 + 0.7 * (image @ LUMA)[..., None]  # of less contrast than the image
    colour = 255 * colormaps["inferno"](strength)[..., :3]
    share = 0.65 * np.minimum(1.5 * strength, 1)[..., None]
    return (grey * (1 - share) + colour * share).round().astype(np.uint8)


def explained_panel(
    image: np.ndarray,
    evidence: Tensor | None,
    prediction: str,
    confidence: float,
    right: bool | None = None,
) -> Panel:
    """The image with the evidence for its predicted class.

    Args:
        image: uint8 [side, side, 3].
        evidence: by :func:`pipeline.explain.gradcam.gradcam`.
        prediction: name of the predicted class.
        confidence: a fraction.
        right: whether the prediction is; None where the label is unknown.
    """
    marks = {True: "✓ ", False: "✗ ", None: ""}
    colours = {True: "green", False: "firebrick", None: "black"}
    note = ""
    if evidence is None:
        note = "no feature map"
    elif not evidence.any():
        note = "no positive evidence"
    return Panel(
        image=overlay(image, heat(evidence, len(image))),
        title=f"{marks[right]}{confidence:.1%} {prediction}",
        colour=colours[right],
        note=note,
    )


def shortened(text: str, length: int = 26) -> str:
    """``text`` on one line of at most ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def write_figure(
    path: Path, rows: Sequence[str], columns: Mapping[str, Sequence[Panel]], dpi: int
) -> None:
    """Write the panels as one PNG.

    Args:
        rows: their names.
        columns: name and panels of each column, as many panels as rows.
        dpi: dots per inch.
    """
    width = LEFT + len(columns) * COLUMN
    height = TOP + len(rows) * ROW + BOTTOM
    figure = Figure(figsize=(width, height))
    figure.text(0.5, 0.1 / height, CAPTION, ha="center", fontsize=8)
    for x, (name, panels) in enumerate(columns.items()):
        left = LEFT + x * COLUMN
        figure.text(
            (left + PANEL / 2) / width,
            1 - 0.2 / height,
            shortened(label(name), 20),
            ha="center",
            weight="bold",
            fontsize=9,
        )
        for y, panel in enumerate(panels):
            bottom = 1 - (TOP + y * ROW + PANEL) / height
            place = (left / width, bottom, PANEL / width, PANEL / height)
            axes = figure.add_axes(place, xticks=[], yticks=[], frame_on=False)
            _draw_panel(axes, panel, row_name="" if x else rows[y])
    save(figure, path, dpi)


def _draw_panel(axes: Axes, panel: Panel, row_name: str) -> None:
    axes.imshow(panel.image)
    axes.set_title(shortened(panel.title), fontsize=8, pad=3, color=panel.colour, parse_math=False)
    axes.set_ylabel(row_name, fontsize=8)
    axes.text(
        0.5,
        0.5,
        panel.note,
        transform=axes.transAxes,
        ha="center",
        fontsize=8,
        color="white",
        bbox={"facecolor": "black", "linewidth": 0},
    )


def write_pictures(
    folder: Path, ids: Iterable[int], columns: Mapping[str, Sequence[Panel]]
) -> None:
    """Write all images as JPEG files ID-NAME.jpg of ``folder``, in place of what was there.

    Args:
        ids: of the rows.
        columns: as for :func:`write_figure`; without a name, the files are ID.jpg.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for image_id, panels in zip(ids, zip(*columns.values(), strict=True), strict=True):
        for name, panel in zip(columns, panels, strict=True):
            file_name = f"{image_id}-{name}.jpg" if name else f"{image_id}.jpg"
            # Through memory: on a disk that is almost full, Pillow shortens a JPEG in silence.
            content = io.BytesIO()
            Image.fromarray(panel.image).save(content, "JPEG", quality=90)
            with atomic(folder / file_name) as (path,):
                path.write_bytes(content.getvalue())
