"""Which images are explained, and how they are shown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.explain.panels import (
    Panel,
    choose_images,
    explained_panel,
    overlay,
    shortened,
    write_figure,
    write_pictures,
)

Predicted = list[tuple[int, float]]  # class and confidence of each image


def predictions(**columns: Predicted) -> dict[str, pd.DataFrame]:
    """Of each approach for eight images, of the classes 0, 0, 0, 1, 1, 1, 2, 2."""
    tables = {}
    for name, predicted in columns.items():
        tables[name] = pd.DataFrame(
            {
                "id": range(10, 18),
                "label": [0, 0, 0, 1, 1, 1, 2, 2],
                "prediction": [class_id for class_id, _ in predicted],
                "confidence": [confidence for _, confidence in predicted],
            }
        )
    return tables


GOOD: Predicted = [
    (0, 0.9),
    (0, 0.8),
    (0, 0.7),
    (1, 0.6),
    (2, 0.95),  # wrong
    (2, 0.99),  # wrong
    (2, 0.9),
    (1, 0.9),  # wrong
]
POOR: Predicted = [
    (0, 0.5),
    (0, 0.5),
    (0, 0.9),
    (0, 0.9),  # wrong
    (1, 0.99),
    (0, 0.99),  # wrong
    (1, 0.2),  # wrong
    (2, 0.5),
]
ALL = [
    ("mistake", 5),
    ("mistake", 4),
    ("mistake", 7),
    ("disagreement", 3),
    ("disagreement", 6),
    ("typical", 0),
]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # The best approach is wrong on 5 (0.99), 4 (0.95), 7 (0.9). One of the two is right on
        # 4 (mean 0.97), 3 (0.75), 7 (0.7), 6 (0.55). Both are right on 0, 1, 2 of class 0: the
        # median of the means is that of 0.
        ((1, 1, 1), [("mistake", 5), ("disagreement", 4), ("typical", 0)]),
        ((2, 1, 0), [("mistake", 5), ("mistake", 4), ("disagreement", 3)]),  # none twice
        ((0, 2, 0), [("disagreement", 4), ("disagreement", 3)]),
        ((9, 9, 9), ALL),
        ((0, 0, 0), []),
    ],
)
def test_images_are_chosen_by_rules(
    counts: tuple[int, int, int], expected: list[tuple[str, int]]
) -> None:
    table = choose_images(predictions(good=GOOD, poor=POOR), *counts)
    assert list(table["approach"]) == ["good", "poor"] * len(expected)
    assert list(zip(table["rule"], table["row"], strict=True))[::2] == expected
    assert list(table["id"] - 10) == list(table["row"])
    predicted = [approach[row][0] for _, row in expected for approach in (GOOD, POOR)]
    assert list(table["prediction"]) == predicted


def test_one_approach_has_mistakes_and_no_disagreements() -> None:
    """Of equal images the first is chosen; typical classes are evenly spread."""
    only: Predicted = [(class_id, 0.5) for class_id in (0, 0, 1, 1, 1, 0, 2, 2)]
    table = choose_images(predictions(only=only), mistakes=1, disagreements=5, typical=2)
    chosen = list(zip(table["rule"], table["row"], strict=True))
    assert chosen == [("mistake", 2), ("typical", 0), ("typical", 6)]


def test_heat_colours_a_grey_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    strength = np.zeros((8, 8), np.float32)
    strength[2, 3] = 1
    found = overlay(image, strength)
    assert (found.dtype, found.shape) == (np.uint8, image.shape)
    coloured = np.ptp(found.astype(int), axis=2) > 0
    assert coloured[2, 3]
    assert coloured.sum() == 1


def test_a_panel_says_what_was_predicted_and_whether_there_is_evidence() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    panel = explained_panel(image, torch.ones(2, 2), "rose", 0.987, right=True)
    assert (panel.title, panel.colour, panel.note) == ("✓ 98.7% rose", "green", "")
    panel = explained_panel(image, torch.zeros(2, 2), "rose", 1.0, right=False)
    assert (panel.title, panel.colour) == ("✗ 100.0% rose", "firebrick")
    assert panel.note == "no positive evidence"
    panel = explained_panel(image, None, "rose", 0.5)
    assert (panel.title, panel.colour, panel.note) == ("50.0% rose", "black", "no feature map")


@pytest.mark.filterwarnings("ignore:Glyph")  # Matplotlib's font has no Chinese
def test_names_of_any_kind_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = [r"$\frac{1$ ^_{", "<b>&amp;", "a\nb\tc", "ورد أحمر 玫瑰", "x" * 300]
    panels = [Panel(np.zeros((8, 8, 3), np.uint8), name) for name in names]
    columns = {"": panels} | {f"approach_{number}": panels for number in range(12)}
    write_figure(tmp_path / "figure.png", ["mistake"] * 5, columns, dpi=40)
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.size == (pytest.approx(40 * 25, abs=2), pytest.approx(40 * 11.25, abs=2))
    assert [len(shortened(name)) for name in names[2:]] == [5, 11, 26]


def test_no_images_make_a_figure_too(tmp_path: Path) -> None:
    write_figure(tmp_path / "figure.png", [], {"": [], "approach": []}, dpi=40)
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.height < 40


def test_pictures_replace_those_of_an_earlier_run(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "9.jpg").touch()
    panel = Panel(np.full((8, 8, 3), 50, np.uint8), "rose")
    brighter = replace(panel, image=panel.image + 100)
    write_pictures(folder, [3, 4], {"": [panel, panel], "one": [brighter, brighter]})
    assert sorted(path.name for path in folder.iterdir()) == [
        "3-one.jpg",
        "3.jpg",
        "4-one.jpg",
        "4.jpg",
    ]
    for name, brightness in (("3.jpg", 50), ("3-one.jpg", 150)):
        with Image.open(folder / name) as image:
            assert np.asarray(image).mean() == pytest.approx(brightness, abs=2)
