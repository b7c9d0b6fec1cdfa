"""Images that are unlike most of the data are found, each by its kind."""

import pandas as pd
import pytest

from pipeline.explore.odd import find_odd

USUAL = {
    "width": 400,
    "height": 300,
    "brightest": 0.9,
    "darkest": 0.1,
    "sharpness": 300.0,
    "colour": 0.5,
    "distance": 0.1,
}


def found(images: int, odd: dict[int, dict[str, float]]) -> pd.DataFrame:
    """What is odd among ``images`` usual images, of which ``odd`` have other values."""
    values = pd.DataFrame([USUAL | odd.get(row, {}) for row in range(images)])
    names = [f"{row}.jpg" for row in range(images)]
    table = pd.DataFrame({"file": names, "split": "val", "class": "rose"})
    return find_odd(table, values.drop(columns="distance"), values["distance"])


@pytest.mark.parametrize(
    ("kind", "values", "value", "usual"),
    [
        ("outlier", {"distance": 0.21}, 0.21, 0.1),
        ("dark", {"brightest": 0.3}, 0.3, 0.9),
        ("light", {"darkest": 0.96}, 0.96, 0.1),
        ("blurred", {"sharpness": 14.0}, 14, 300),
        ("tiny", {"width": 120, "height": 90}, 10_800, 120_000),
        ("ratio", {"width": 1200, "height": 400}, 1 / 3, 0.75),
        ("ratio", {"width": 400, "height": 1200}, 1 / 3, 0.75),
        ("grey", {"colour": 0.02}, 0.02, 0.5),
    ],
)
def test_each_kind_is_found(
    kind: str, values: dict[str, float], value: float, usual: float
) -> None:
    table = found(20, {3: values})
    assert list(table) == ["file", "split", "class", "what", "value", "usual"]
    row = table.iloc[0].to_dict()
    assert len(table) == 1
    assert (row["file"], row["split"], row["class"], row["what"]) == ("3.jpg", "val", "rose", kind)
    assert row["value"] == pytest.approx(value, abs=1e-6)
    assert row["usual"] == pytest.approx(usual, abs=1e-6)


def test_usual_images_are_not_odd() -> None:
    nearly: dict[int, dict[str, float]] = {
        0: {"distance": 0.19},
        1: {"brightest": 0.35},
        2: {"darkest": 0.9},
        3: {"sharpness": 20.0},
        4: {"width": 130, "height": 100},
        5: {"width": 1000, "height": 400},
        6: {"colour": 0.06},
    }
    table = found(20, nearly)
    assert len(table) == 0
    assert list(table) == ["file", "split", "class", "what", "value", "usual"]


def test_an_image_may_be_odd_in_several_ways_and_the_oddest_come_first() -> None:
    blank = {"brightest": 0.1, "sharpness": 0.0, "colour": 0.0}
    table = found(30, {8: {"sharpness": 9.0}, 9: blank, 10: {"sharpness": 3.0}})
    listed = list(zip(table["what"], table["file"], strict=True))
    assert listed == [
        ("dark", "9.jpg"),
        ("blurred", "9.jpg"),
        ("blurred", "10.jpg"),
        ("blurred", "8.jpg"),
        ("grey", "9.jpg"),
    ]


def test_what_a_fifth_of_the_images_are_is_how_these_data_are() -> None:
    grey = {"colour": 0.0}
    assert len(found(20, dict.fromkeys(range(4), grey))) == 4
    assert len(found(20, dict.fromkeys(range(5), grey))) == 0
    assert len(found(20, dict.fromkeys(range(20), grey))) == 0


def test_copies_that_were_not_compared_are_no_outliers() -> None:
    values = pd.DataFrame([USUAL] * 10)
    images = pd.DataFrame({"file": list("abcdefghij"), "split": "train", "class": "rose"})
    distance = values["distance"].drop([4, 7])
    distance[2] = 0.5
    table = find_odd(images, values.drop(columns="distance"), distance)
    assert table["file"].tolist() == ["c"]
