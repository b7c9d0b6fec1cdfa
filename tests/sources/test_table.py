"""Labels in tables as people have them: columns by what is in them, images by path or name."""

import json
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.params import Columns
from pipeline.sources.layout import Layout, Place
from pipeline.sources.table import is_candidate, read_names, read_places, read_table

HERE = Path("photos")
NAMES = [f"images/{number:04}.jpg" for number in range(8)]
FOUND = Columns()  # by themselves
BREEDS = ["collie", "poodle"] * 4


def csv(head: str, *rows: str) -> str:
    return "\n".join([head, *rows]) + "\n"


def read(
    content: str | bytes,
    name: str = "labels.csv",
    names: list[str] = NAMES,
    columns: Columns = FOUND,
) -> Layout:
    encoded = content if isinstance(content, bytes) else content.encode()
    table = read_table(name, encoded)
    assert table is not None
    layout = read_places([table], names, HERE, columns)
    assert layout is not None
    return layout


def labels(layout: Layout) -> list[str | None]:
    return [layout.places[name].label for name in sorted(layout.places)]


ROWS = [(f"{number:04}", breed) for number, breed in enumerate(BREEDS)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train_labels.csv", csv("id,breed", *(f"{i},{b}" for i, b in ROWS))),
        ("labels.csv", csv("image;label", *(f"{i}.jpg;{b}" for i, b in ROWS))),
        ("labels.tsv", csv("file\tspecies", *(f"images/{i}.jpg\t{b}" for i, b in ROWS))),
        ("images/metadata.csv", csv("file_name,label", *(f"{i}.jpg,{b}" for i, b in ROWS))),
        ("x.csv", csv("path,class", *(f"/content/data/images/{i}.jpg,{b}" for i, b in ROWS))),
        ("x.csv", csv("path,class", *(f"C:\\data\\images\\{i}.jpg,{b}" for i, b in ROWS))),
        ("x.csv", "\ufeff" + csv("Image Name,Class Name", *(f"{i}.jpg, {b}" for i, b in ROWS))),
        ("x.csv", csv("name,y,age", *(f'"{i}.jpg","{b}",{i}.5' for i, b in ROWS))),
        # Another column names an image, too, but in half of the rows.
        (
            "x.csv",
            csv("image,file,y", *(f"{i if int(i) % 2 else '-'},{i},{b}" for i, b in ROWS)),
        ),
        ("x.csv", csv("what,who", *(f"{b},{i}.jpg" for i, b in ROWS))),
        ("x.csv", csv("who,what,where", *(f"{i}.jpg,{b},here" for i, b in ROWS))),
        (
            "sample_labels.csv",
            csv(
                "Image Index,Age,Finding Labels,Sex",
                *(f"{i}.jpg,{int(i) // 2},{b},M" for i, b in ROWS),
            ),
        ),
        ("x.csv", csv(*(f"{i}.jpg,{b}" for i, b in ROWS))),
        (
            "metadata.jsonl",
            csv(*(json.dumps({"file_name": f"images/{i}.jpg", "label": b}) for i, b in ROWS)),
        ),
        ("all.json", json.dumps([{"image": f"{i}.jpg", "label": b} for i, b in ROWS])),
        (
            "_classes.csv",
            csv(
                "filename, collie, poodle",
                *(f"{i}.jpg, {b == 'collie':d}, {b == 'poodle':d}" for i, b in ROWS),
            ),
        ),
    ],
)
def test_images_and_labels_are_found_in_tables_of_all_kinds(name: str, content: str) -> None:
    assert labels(read(content, name)) == BREEDS


def test_a_table_in_another_encoding_is_read() -> None:
    content = csv("file,label", *(f"{i}.jpg,{'café' if b == 'collie' else b}" for i, b in ROWS))
    for encoded in (content.encode("cp1252"), content.encode("utf-16")):
        assert set(labels(read(encoded))) == {"café", "poodle"}


def test_labels_that_look_like_numbers_or_nothing_keep_their_text() -> None:
    content = csv("id,label", *(f"{i},{'NA' if b == 'collie' else '007'}" for i, b in ROWS))
    assert set(labels(read(content))) == {"NA", "007"}
    rows = [{"file": i, "label": b} for i, b in ROWS]
    assert labels(read(json.dumps(rows).replace('"collie"', "NaN", 1), "all.json"))[0] is None


def test_split_and_group_columns_are_used_and_what_was_understood_is_said() -> None:
    splits = ["train", "train", "train", "train", "Valid", "Valid", "test", "test"]
    rows = [f"{i},{b},{s},plant {i[-1]}" for (i, b), s in zip(ROWS, splits, strict=True)]
    layout = read(csv("id,species,set,patient_id", *rows))
    assert layout.places[NAMES[4]] == Place("collie", "val", "plant 4")
    assert layout.places[NAMES[7]] == Place("poodle", "test", "plant 7")
    assert layout.notes == [
        "labels.csv: image is 'id', label is 'species', split is 'set', group is 'patient_id' "
        "(images.columns in params.yaml names others)"
    ]
    layout = read(csv("file,label,is_valid", *(f"{i},{b},{i > '0005'}" for i, b in ROWS)))
    assert [place.split for place in layout.places.values()] == ["train"] * 6 + ["val"] * 2


def test_params_name_columns_that_are_called_otherwise() -> None:
    content = csv("key,a,b", *(f"{i},{b},{int(i) // 4}" for i, b in ROWS))
    with pytest.raises(UserError, match=r"labels\.csv: which column has the labels\? 'a', 'b'"):
        read(content)
    assert labels(read(content, columns=Columns(label="b"))) == list("00001111")
    with pytest.raises(UserError, match=r"images\.columns\.label = c: there are only 'key', 'a'"):
        read(content, columns=Columns(label="c"))
    with pytest.raises(UserError, match=r"images\.columns\.split = b: '0', '1' are no splits"):
        read(content, columns=Columns(label="a", split="b"))


def test_what_a_table_does_not_name_and_what_is_not_there_are_counted_and_named() -> None:
    content = csv("id,label", *(f"{i},{b}" for i, b in ROWS[:6]), "missing,poodle", "0006,")
    layout = read(content)
    assert labels(layout) == [*BREEDS[:6], None, None]
    assert "named in a table, but not there (1): 'missing'" in layout.notes
    assert (
        "images that no table names, which are only predicted (1): 'images/0007.jpg'"
        in layout.notes
    )


def test_images_of_the_same_name_are_told_apart_by_their_folders() -> None:
    names = ["a/1.jpg", "b/1.jpg", "a/2.jpg", "b/2.jpg"]
    rows = ["a/1.jpg,x", "D:/all/b/1.jpg,y", "a/2,x", "./b/2.jpg,y"]
    assert labels(read(csv("file,label", *rows), names=names)) == ["x", "x", "y", "y"]
    ambiguous = read(csv("file,label", "1.jpg,x", *rows[2:]), names=names)
    assert "named in a table, but not there (1): '1.jpg'" in ambiguous.notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            csv("id,label", "0000,a|b", "0001,a", "0002,b", "0003,a"),
            r"column 'label' has several labels in one cell: 'a\|b'; one label an image",
        ),
        (csv("id,label", "0000,a b", "0001,a", "0002,b"), "several labels in one cell: 'a b'"),
        (
            csv("id,label", "0000,a", "0000,b", "0001,b", "0002,a"),
            r"images with several labels in several rows \(1\): '0000'",
        ),
        (
            csv("id,cat,dog", "0000,1,1", "0001,1,0", "0002,0,1"),
            r"rows with several labels \(1\), such as row 1",
        ),
    ],
)
def test_several_labels_for_an_image_are_refused_in_words(content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(content)


def test_names_of_two_words_are_no_two_labels() -> None:
    rows = [f"{i},{'sea lion' if b == 'collie' else 'lion'}" for i, b in ROWS]
    assert set(labels(read(csv("id,label", *rows)))) == {"sea lion", "lion"}


def test_several_tables_say_the_splits_by_their_names_or_folders() -> None:
    names = [f"{split}/{number}.png" for split in ("train", "valid", "test") for number in range(4)]
    tables = []
    for split in ("train", "valid"):
        rows = [f"{number}.png,{number % 2},{1 - number % 2}" for number in range(4)]
        table = read_table(f"{split}/_classes.csv", csv("filename,a,b", *rows).encode())
        assert table is not None
        tables.append(table)
    layout = read_places(tables, names, HERE, Columns())
    assert layout is not None
    assert layout.places["valid/1.png"] == Place("a", "val")
    assert layout.places["train/2.png"] == Place("b", "train")
    assert layout.places["test/0.png"] == Place(None)


def test_a_single_table_is_no_split_whatever_it_is_called() -> None:
    """Kaggle's train_labels.csv names all images that have a label."""
    layout = read(csv("id,breed", *(f"{i},{b}" for i, b in ROWS)), "train_labels.csv")
    assert {place.split for place in layout.places.values()} == {None}


def test_what_is_no_table_of_labels_is_none() -> None:
    assert read_table("cat_to_name.json", b'{"1": "rose"}') is None
    assert read_table("coco.json", b'{"images": [{"id": 1}], "annotations": []}') is None
    for content in (csv("city,people", "Rome,3"), csv("id,width", *(f"{i},{i}" for i, _ in ROWS))):
        table = read_table("x.csv", content.encode())
        assert table is not None
        assert read_places([table], NAMES, HERE, Columns()) is None
    with pytest.raises(UserError, match=r"broken\.csv: cannot be read as a table"):
        read_table("broken.csv", b'a,b\n"1,2\n3')
    assert not is_candidate("sample_submission.csv")
    assert not is_candidate("readme.txt")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("cat_to_name.json", '{"2": "rose", "1": "lily", "3": "iris"}'),
        ("classes.csv", csv("id,name", "1,lily", "2,rose", "3,iris")),
        ("class_to_idx.json", '{"lily": 1, "rose": 2, "iris": 3}'),
    ],
)
def test_a_map_gives_classes_names_that_people_read(file: str, content: str) -> None:
    found = read_names({"notes.json": b"[", file: content.encode()}, ["1", "2"])
    assert found == (file, {"1": "lily", "2": "rose"})


def test_a_map_that_lacks_a_class_or_only_has_numbers_names_none() -> None:
    assert read_names({"x.json": b'{"1": "lily"}'}, ["1", "2"]) == ("", {})
    assert read_names({"x.json": b'{"cat": 0, "dog": 1}'}, ["cat", "dog"]) == ("", {})


def test_classes_of_one_name_stay_apart() -> None:
    content = b'{"1": "petunia", "2": "petunia", "3": "rose"}'
    names = {"1": "petunia (1)", "2": "petunia (2)", "3": "rose"}
    assert read_names({"x.json": content}, ["1", "2", "3"]) == ("x.json", names)
