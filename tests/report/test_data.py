"""The section about the data: what to check, with names of files, and what to do about it."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data.tables import write_csv
from pipeline.report.data import (
    ACROSS,
    IDENTICAL,
    KINDS,
    ODD,
    SUSPECTS,
    WITHIN,
    Data,
    data_page,
    read_data,
)
from pipeline.report.html import small
from tests.report.test_page import ALIKE, HOSTILE, Checked, made_up_data, made_up_index


@pytest.fixture
def data() -> Data:
    return made_up_data(HOSTILE, made_up_index(len(HOSTILE), 20))


def text_of(data: Data) -> str:
    return Checked(data_page(data, "The data of <me>")).text


def test_the_page_is_complete_in_itself_and_names_every_file(data: Data) -> None:
    html = data_page(data, "The data of <me>")
    text = Checked(html).text
    assert text.count("The data of <me>") == 2
    for file in (*data.suspects["file"], *data.alike["first"], *data.alike["second"]):
        assert file in text
    for name in HOSTILE:
        assert name in text
    assert "short side is 300 to 1,500 (median 400) pixels" in text
    assert len(html) < 300_000


def test_a_suspect_stands_with_its_label_and_the_suggested_one(data: Data) -> None:
    text = text_of(data)
    assert "Labels to check: 1 of 26 images" in text
    row = data.suspects.iloc[0]
    image = data.index.set_index("member").loc[row["file"]]
    label = data.classes[image["label"]]
    assert f"{label}, or {row['suggested']}? (test)" in text
    assert "move the file to the folder of the right class" in text


def test_pairs_say_how_alike_they_are_and_where(data: Data) -> None:
    text = text_of(data)
    assert "The same image more than once: 1 groups" in text
    assert "Different classes: one label is wrong" in text
    assert "Nearly the same image: 1 pairs across splits, 1 within" in text
    for words in ("Cosine 0.9877, same class", "Cosine 0.9500, different classes"):
        assert words in text
    assert text.index("Cosine 0.9877") < text.index("Cosine 0.5000") < text.index("Cosine 0.9500")


def test_every_kind_of_odd_image_has_a_title_and_its_usual_value(data: Data) -> None:
    text = text_of(data)
    for title, words, _ in KINDS.values():
        assert f"\n{title}: 1\n" in text
        assert f"{words} Usual in these data: 0" in text


def test_series_are_said_to_be_series_and_what_to_do(data: Data) -> None:
    def note(count: int, images: int) -> bool:
        near = data.dataset["near_duplicates"] | {"evaluated_near_train": count}
        sizes = dict.fromkeys(("val", "test"), data.dataset["val"] | {"images": images})
        text = text_of(replace(data, dataset={**data.dataset, **sizes, "near_duplicates": near}))
        assert ("images.groups" in text) == (f"{count:,} of the {2 * images:,} images" in text)
        return "images.groups" in text

    assert note(20, images=100)
    assert not note(19, images=100)
    assert note(3, images=5)
    assert not note(2, images=5)  # may be an accident


def test_nothing_to_check_is_said(data: Data) -> None:
    near = dict.fromkeys(data.dataset["near_duplicates"], 0)
    clean = replace(
        data,
        dataset={**data.dataset, "identical_images": [], "near_duplicates": near},
        alike=data.alike[:0],
        suspects=data.suspects[:0],
        odd=data.odd[:0],
    )
    text = text_of(clean)
    assert "No label contradicts the other images." in text
    assert "No two images have the same pixels." in text
    assert "None is dark, light, blurred" in text
    assert "Cosine" not in text


def test_the_page_stays_readable_however_much_is_found(data: Data) -> None:
    def often(table: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([table] * 100, ignore_index=True)

    more = replace(
        data, alike=often(data.alike), suspects=often(data.suspects), odd=often(data.odd)
    )
    pictures = data_page(more, "more").count("<img")
    samples = len(HOSTILE)
    pairs = IDENTICAL + ACROSS + WITHIN
    assert pictures == samples + SUSPECTS + 2 * pairs + ODD * len(KINDS)


def test_pictures_are_whole_and_small() -> None:
    image = np.zeros((200, 400, 3), np.uint8)
    image[:, :40] = 255
    content = base64.b64decode(re.sub("^.*,", "", small(image)))
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (128, 64)
        assert picture.getpixel((4, 30)) == pytest.approx((255, 255, 255), abs=8)
    narrow = base64.b64decode(re.sub("^.*,", "", small(np.zeros((10, 5000, 3), np.uint8))))
    with Image.open(io.BytesIO(narrow)) as picture:
        assert picture.size == (128, 1)


def test_classes_and_files_with_numbers_for_names_stay_as_they_are(
    project: Path, tmp_path: Path
) -> None:
    for name in ("dataset.json", "counts.csv", "suspects.csv", "odd.csv", "left_out.csv"):
        (tmp_path / name).write_bytes((project / "report" / name).read_bytes())
    pairs = [("007", "008", "train", "test", "1.0", "NA", 0.5, "near")]
    write_csv(tmp_path / "alike.csv", pd.DataFrame(pairs, columns=ALIKE))
    row = read_data(project / "data" / "raw", tmp_path).alike.iloc[0].to_dict()
    assert (row["first"], row["second"]) == ("007", "008")
    assert (row["first_class"], row["second_class"]) == ("1.0", "NA")


def test_the_section_of_a_run_shows_what_its_tables_hold(project: Path) -> None:
    report = project / "report"
    data = read_data(project / "data" / "raw", report)
    page = (report / "index.html").read_text(encoding="utf-8")
    text = Checked(page).text.split("\nThe data\n")[1]
    assert f"Labels to check: {len(data.suspects):,} of {len(data.index):,} images" in text
    for row in data.alike[data.alike["first_split"] != data.alike["second_split"]].head(3).index:
        assert data.alike["first"][row] in text
    assert data.counts[["train", "val", "test"]].to_numpy().sum() == len(data.index)
    assert set(data.alike["kind"]) <= {"identical", "near", "alike"}
    assert set(data.odd["what"]) <= set(KINDS)
