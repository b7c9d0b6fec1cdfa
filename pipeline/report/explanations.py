"""Explanations for people: images chosen by rules, heat laid over them, the figure."""

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from pipeline.base.files import atomic
from pipeline.models.gradcam import heat
from pipeline.report.style import label, save

CAPTION = """Grad-CAM: grey does not speak for the class above it,
violet does a little, pale yellow most in that image."""


class Panel(NamedTuple):
    """One image of the figure: uint8 [height, width, 3], the text above it and its colour, the text across it."""

    image: np.ndarray
    title: str
    colour: str = "black"
    note: str = ""


def choose(predictions: Mapping[str, pd.DataFrame], mistakes: int, disagreements: int, typical: int) -> pd.DataFrame:
    """The images to explain, none twice, fewer where there are no more; of equals the first.

    - mistake: the approach of the best accuracy (the first of equals) is wrong; by its confidence, largest first.
    - disagreement: some approaches are right, some wrong; by the mean of their confidences, largest first.
    - typical: all are right; the median of its class by that mean. The classes are evenly spread.

    Args:
        predictions: of each approach, on the same images: columns id, label, prediction, confidence.
        mistakes, disagreements, typical: how many images of each rule.

    Returns:
        The predictions for them, an image's below one another, with columns rule, row (in the split) and approach.
    """
    labels = next(iter(predictions.values()))["label"]
    correct = pd.DataFrame({name: table["prediction"] == labels for name, table in predictions.items()})
    confidence = pd.DataFrame({name: table["confidence"] for name, table in predictions.items()})
    best, mean, all_right = correct.mean().idxmax(), confidence.mean(axis=1), correct.all(axis=1)
    wrong = confidence[best][~correct[best]].nlargest(mistakes).index
    split = mean[correct.any(axis=1) & ~all_right].drop(wrong, errors="ignore").nlargest(disagreements).index
    classes = [values.sort_values(kind="stable") for _, values in mean[all_right].groupby(labels)]
    medians = [values.index[(len(values) - 1) // 2] for values in classes]
    spread = np.linspace(0, len(medians) - 1, min(typical, len(medians))).round().astype(int)
    chosen = {"mistake": list(wrong), "disagreement": list(split), "typical": [medians[place] for place in spread]}
    images = pd.DataFrame([(rule, row) for rule, rows in chosen.items() for row in rows], columns=["rule", "row"])
    tables = [images.join(table, on="row").assign(approach=name) for name, table in predictions.items()]
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)


def overlay(image: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Heat laid over the image, which shines through in grey: uint8 [height, width, 3].

    Args:
        image: uint8 [height, width, 3].
        strength: by :func:`pipeline.models.gradcam.heat`, float32 [height, width] in 0..1.
    """
    grey = 40 + 0.7 * (image @ np.array([0.299, 0.587, 0.114]))[..., None]  # ITU-R BT.601, of less contrast
    colour = 255 * colormaps["inferno"](strength)[..., :3]
    share = 0.65 * np.minimum(1.5 * strength, 1)[..., None]
    return (grey * (1 - share) + colour * share).round().astype(np.uint8)


def explained(
    image: np.ndarray, evidence: Tensor | None, prediction: str, confidence: float, right: bool | None = None
) -> Panel:
    """The image with the evidence for its predicted class.

    Args:
        evidence: by :func:`pipeline.models.gradcam.gradcam`.
        confidence: a fraction.
        right: the prediction, or None where nobody knows.
    """
    mark, colour = {True: ("✓ ", "green"), False: ("✗ ", "firebrick"), None: ("", "black")}[right]
    note = "no feature map" if evidence is None else "" if evidence.any() else "no positive evidence"
    return Panel(overlay(image, heat(evidence, len(image))), f"{mark}{confidence:.1%} {prediction}", colour, note)


def cut(text: str, length: int = 26) -> str:
    """``text`` on one line of at most ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def draw(path: Path, rows: Sequence[str], columns: Mapping[str, Sequence[Panel]], dpi: int) -> None:
    """Write the figure as PNG.

    Args:
        rows: their names.
        columns: name and panels of each, as many as rows.
    """
    side, column, row, left, top, bottom = 1.8, 1.9, 2.1, 0.3, 0.55, 0.2  # inches: panel, distances, margins
    width, height = left + len(columns) * column, top + len(rows) * row + bottom
    figure = Figure(figsize=(width, height))
    figure.text(0.5, 0.1 / height, CAPTION, ha="center", fontsize=8)
    for x, (name, panels) in enumerate(columns.items()):
        centre = (left + x * column + side / 2) / width
        figure.text(centre, 1 - 0.2 / height, cut(label(name), 20), ha="center", weight="bold", fontsize=9)
        for y, panel in enumerate(panels):
            corner = ((left + x * column) / width, 1 - (top + y * row + side) / height)
            axis = figure.add_axes((*corner, side / width, side / height), xticks=[], yticks=[], frame_on=False)
            axis.imshow(panel.image)
            axis.set_title(cut(panel.title), fontsize=8, pad=3, color=panel.colour, parse_math=False)
            axis.set_ylabel("" if x else rows[y], fontsize=8)
            box = {"facecolor": "black", "linewidth": 0}
            axis.text(0.5, 0.5, panel.note, transform=axis.transAxes, ha="center", fontsize=8, color="white", bbox=box)
    save(figure, path, dpi)


def write_pictures(folder: Path, ids: Iterable[int], columns: Mapping[str, Sequence[Panel]]) -> None:
    """Write all images as JPEG files of ``folder``, ID-NAME.jpg, in place of what was there.

    Args:
        ids: of the rows.
        columns: as for :func:`draw`; without a name, the files are ID.jpg.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for number, panels in zip(ids, zip(*columns.values(), strict=True), strict=True):
        for name, panel in zip(columns, panels, strict=True):
            content = io.BytesIO()  # Pillow cuts a JPEG short on a disk that is all but full, and says nothing
            Image.fromarray(panel.image).save(content, "JPEG", quality=90)
            with atomic(folder / f"{number}{name and '-'}{name}.jpg") as (path,):
                path.write_bytes(content.getvalue())
