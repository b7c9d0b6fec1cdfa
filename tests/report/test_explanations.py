"""Which images are explained, and how they are shown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.report.explanations import Panel, choose, cut, draw, explained, overlay


def predictions(**columns: list[tuple[int, float]]) -> dict[str, pd.DataFrame]:
    """Of eight images of the classes 0, 0, 0, 1, 1, 1, 2, 2, by each approach: class and confidence."""
    known = pd.DataFrame({"id": range(10, 18), "label": [0, 0, 0, 1, 1, 1, 2, 2]})
    return {
        name: known.assign(prediction=[value for value, _ in found], confidence=[share for _, share in found])
        for name, found in columns.items()
    }


GOOD = [(0, 0.9), (0, 0.8), (0, 0.7), (1, 0.6), (2, 0.95), (2, 0.99), (2, 0.9), (1, 0.9)]  # wrong: 4, 5, 7
POOR = [(0, 0.5), (0, 0.5), (0, 0.9), (0, 0.9), (1, 0.99), (0, 0.99), (1, 0.2), (2, 0.5)]  # wrong: 3, 5, 6


ALL = [("mistake", 5), ("mistake", 4), ("mistake", 7), ("disagreement", 3), ("disagreement", 6), ("typical", 0)]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        # The best approach is wrong on 5 (0.99), 4 (0.95), 7. One of the two is right on 3, 4, 6, 7: by the mean
        # 4 (0.97), 3 (0.75), 7 (0.7), 6 (0.55). Both are right on 0, 1, 2 of class 0: the median of the means is 0's.
        ((1, 1, 1), [("mistake", 5), ("disagreement", 4), ("typical", 0)]),
        ((2, 1, 0), [("mistake", 5), ("mistake", 4), ("disagreement", 3)]),  # none twice
        ((0, 2, 0), [("disagreement", 4), ("disagreement", 3)]),
        ((9, 9, 9), ALL),
        ((0, 0, 0), []),
    ],
)
def test_images_are_chosen_by_rule(numbers: tuple[int, int, int], expected: list[tuple[str, int]]) -> None:
    table = choose(predictions(good=GOOD, poor=POOR), *numbers)
    assert list(table["approach"]) == ["good", "poor"] * len(expected)
    assert list(zip(table["rule"], table["row"], strict=True))[::2] == expected
    assert list(table["id"] - 10) == list(table["row"])
    both = [(GOOD[row][0], POOR[row][0]) for _, row in expected]
    assert list(table["prediction"]) == [prediction for pair in both for prediction in pair]


def test_one_approach_has_mistakes_and_no_disagreements() -> None:
    """Equals come in the order of the rows; typical classes are evenly spread."""
    same = [(label, 0.5) for label in (0, 0, 1, 1, 1, 0, 2, 2)]
    table = choose(predictions(only=same), 1, 5, 2)
    assert list(zip(table["rule"], table["row"], strict=True)) == [("mistake", 2), ("typical", 0), ("typical", 6)]


def test_heat_colours_a_grey_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[2, 3] = 1
    found = overlay(image, heat)
    assert (found.dtype, found.shape) == (np.uint8, image.shape)
    coloured = np.ptp(found.astype(int), axis=2) > 0
    assert coloured[2, 3]
    assert coloured.sum() == 1


def test_a_panel_says_what_was_predicted_and_that_nothing_speaks_for_it() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    assert explained(image, torch.ones(2, 2), "rose", 0.987, True)[1:] == ("✓ 98.7% rose", "green", "")
    assert explained(image, torch.zeros(2, 2), "rose", 1.0, False)[1:] == (
        "✗ 100.0% rose",
        "firebrick",
        "no positive evidence",
    )
    assert explained(image, None, "rose", 0.5)[1:] == ("50.0% rose", "black", "no feature map")


@pytest.mark.filterwarnings("ignore:Glyph")  # Matplotlib's font has no Chinese
def test_names_of_any_kind_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = [r"$\frac{1$ ^_{", "<b>&amp;", "a\nb\tc", "ورد أحمر 玫瑰", "x" * 300]
    panels = [Panel(np.zeros((8, 8, 3), np.uint8), name) for name in names]
    draw(tmp_path / "a.png", ["mistake"] * 5, {"": panels} | {f"approach_{n}": panels for n in range(12)}, dpi=40)
    draw(tmp_path / "b.png", [], {"": [], "approach": []}, dpi=40)
    sizes = [Image.open(tmp_path / name).size for name in ("a.png", "b.png")]
    assert sizes[0] == (pytest.approx(40 * 25, abs=2), pytest.approx(40 * 11.25, abs=2))
    assert sizes[1][1] < 40
    assert [len(cut(name)) for name in names[2:]] == [5, 11, 26]
