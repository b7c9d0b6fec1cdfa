"""A person's own images: every file is used, or left out by name with the reason."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.base.errors import UserError
from pipeline.data.archive import Archive
from pipeline.data.raw import RawData, read_index, read_unlabelled, write_raw
from pipeline.params import Images, Shares
from pipeline.sources import folder
from pipeline.sources.files import LeftOutError
from tests.conftest import jpeg

CLASSES = ["a tiger's eye", "class 2", "class 10", "日本 🌸"]  # in natural order
SHARES = Shares(val=0.2, test=0.2, seed=0)


def some_images(per_class: int = 30) -> dict[str, bytes]:
    """Images by name, each different from all others."""
    return few(**dict.fromkeys(CLASSES, per_class))


def few(**classes: int) -> dict[str, bytes]:
    """So many images of each class."""
    return {
        f"{label}/{place}.jpg": jpeg(1000 * number + place)
        for number, (label, size) in enumerate(classes.items())
        for place in range(size)
    }


def write(root: Path, images: Mapping[str, bytes]) -> Path:
    root.mkdir(exist_ok=True)
    for name, content in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@dataclass(frozen=True)
class Result:
    """What the source gave, as it comes back from raw data."""

    raw: RawData
    index: pd.DataFrame
    unlabelled: pd.DataFrame
    notes: list[str]

    @property
    def splits(self) -> dict[str, str]:
        return dict(zip(self.index["member"], self.index["split"], strict=True))

    @property
    def left_out(self) -> dict[str, str]:
        return dict(self.raw.left_out.itertuples(index=False))


def read(path: Path, scratch: Path, split: Shares = SHARES, **settings: object) -> Result:
    notes: list[str] = []
    images = Images(source="folder", path=str(path), split=split).model_copy(update=settings)
    raw = folder.read(images, scratch / "scratch", notes.append)
    write_raw(scratch / "raw", raw)
    here = f"{path}: "
    assert all(note.startswith(here) for note in notes)
    return Result(
        raw,
        read_index(scratch / "raw"),
        read_unlabelled(scratch / "raw"),
        [note.removeprefix(here) for note in notes],
    )


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    images = some_images()
    result = read(write(tmp_path / "own images", images), tmp_path)
    index = result.index.set_index("member")
    assert result.raw.classes == CLASSES
    assert set(index.index) == set(images)
    for name, content in images.items():
        digest = hashlib.sha256(content)
        row = index.loc[name].to_dict()
        assert CLASSES[row["label"]] == name.split("/")[0]
        assert row["sha256"] == digest.hexdigest()
        assert row["id"] == int.from_bytes(digest.digest()[:8]) >> 1
    with Archive(tmp_path / "raw" / "images.tar") as archive:
        assert {name: archive.read(name) for name in images} == images
    assert index["split"].value_counts().to_dict() == {"train": 72, "val": 24, "test": 24}
    assert result.notes == ["4 classes, 72 train, 24 val, 24 test images"]
    assert not len(result.unlabelled)
    assert not result.left_out


def test_classes_that_differ_only_in_case_are_two_and_noted(tmp_path: Path) -> None:
    result = read(write(tmp_path / "own", few(Rose=30, rose=30)), tmp_path)
    assert result.raw.classes == ["Rose", "rose"]
    assert result.notes[0].endswith("differ only in upper and lower case: 'Rose', 'rose'")


def test_numbers_are_names_and_those_that_sort_as_equals_have_one_order(tmp_path: Path) -> None:
    own = write(tmp_path / "own", few(**{"1": 9, "01": 9, "001": 9, "2": 9, "10": 9}))
    assert read(own, tmp_path).raw.classes == ["001", "01", "1", "2", "10"]


def test_renaming_an_image_changes_nothing_and_adding_one_moves_at_most_one_other(
    tmp_path: Path,
) -> None:
    own = write(tmp_path / "own", some_images())
    before = read(own, tmp_path).index.set_index("member")
    (own / "class 2" / "1.jpg").rename(own / "class 2" / "renamed.jpg")
    write(own, {"class 10/new.jpg": jpeg(9000)})
    after = read(own, tmp_path).index.set_index("member")

    assert dict(after.loc["class 2/renamed.jpg"]) == dict(before.loc["class 2/1.jpg"])
    both = before.index.intersection(after.index)
    moved = before.loc[both, "split"] != after.loc[both, "split"]
    assert moved.sum() <= 1
    assert before.loc[both, "id"].equals(after.loc[both, "id"])


def test_identical_images_are_in_one_split_and_have_ids_of_their_own(tmp_path: Path) -> None:
    images = some_images() | {f"class 2/copy {number}.jpg": jpeg(0) for number in range(5)}
    result = read(write(tmp_path / "own", images), tmp_path)
    names = [name for name, content in images.items() if content == jpeg(0)]
    copies = result.index[result.index["member"].isin(names)]
    assert len(copies) == 6
    assert copies["split"].nunique() == 1
    assert copies["sha256"].nunique() == 1
    assert copies["id"].is_unique
    assert result.notes[0].startswith(
        "one image is in several splits or classes, which makes accuracies wrong: 'a tiger's eye"
        if "'" not in CLASSES[0]
        else 'one image is in several splits or classes, which makes accuracies wrong: "a tiger'
    )


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tgz"])
def test_splits_that_folders_say_are_kept_and_archives_are_like_folders(
    tmp_path: Path, kind: str
) -> None:
    names = [f"{split}/{name}" for split in ("Train", "Testing") for name in some_images(6)]
    images = {name: jpeg(number) for number, name in enumerate(names)}
    path = write(tmp_path / "photos", images)
    if kind == "zip":
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((tmp_path / "photos").rglob("*")):
                archive.write(file, file.relative_to(tmp_path))
            archive.writestr("__MACOSX/photos/._0.jpg", "not an image")
    elif kind in ("tar", "tgz"):
        path = tmp_path / f"x.{kind}"
        with tarfile.open(path, "w:gz" if kind == "tgz" else "w") as tar:
            tar.add(tmp_path / "photos", "photos")

    result = read(path, tmp_path)
    assert result.raw.classes == CLASSES
    folders = result.index["member"].str.removeprefix("photos/").str.split("/").str[0]
    assert set(result.index["split"][folders == "Testing"]) == {"test"}
    assert set(result.index["split"][folders == "Train"]) == {"train", "val"}
    assert (
        "no labelled images of val: images.split.val are the shares of train, drawn by class, that "
        "become it" in result.notes
    )


def test_images_without_a_class_are_kept_to_be_predicted(tmp_path: Path) -> None:
    images = {f"train/{name}": content for name, content in few(cat=9, dog=9).items()}
    flat = {f"test/{number}.jpg": jpeg(5000 + number) for number in range(4)}
    result = read(write(tmp_path / "own", images | flat), tmp_path)
    assert set(result.unlabelled["member"]) == set(flat)
    assert set(result.index["member"]) == set(images)
    assert set(result.splits.values()) == {"train", "val", "test"}
    with Archive(tmp_path / "raw" / "images.tar") as archive:
        assert archive.read("test/3.jpg") == flat["test/3.jpg"]
    assert "images without a class, predicted at the end: 4" in result.notes


def test_images_are_known_by_their_content_whatever_their_suffix(tmp_path: Path) -> None:
    images = few(cat=6, dog=6)
    names = {
        name: name.replace(".jpg", ("", ".dat", ".png")[place % 3])
        for place, name in enumerate(images)
    }
    ppm = b"P6 2 2 255\n" + bytes(12)
    files = {names[name]: content for name, content in images.items()} | {"cat/x.ppm": ppm}
    result = read(write(tmp_path / "own", files | {"cat/notes.txt": b"text"}), tmp_path)
    assert set(result.index["member"]) == set(files)
    assert result.left_out == {"cat/notes.txt": "not an image"}


BAD = {
    "cat/empty.jpg": b"",
    "cat/cut.jpg": jpeg(7)[:-200],
    "dog/page.jpg": b"<!DOCTYPE html><title>404</title>",
}


def test_images_that_cannot_be_read_are_left_out_by_name_with_the_reason(tmp_path: Path) -> None:
    good = few(cat=60, dog=60)
    result = read(write(tmp_path / "own", good | BAD), tmp_path)
    assert set(result.index["member"]) == set(good)
    assert set(result.left_out) == set(BAD)
    assert result.left_out["cat/empty.jpg"] == "an empty file"
    assert "DOCTYPE" in result.left_out["dog/page.jpg"]
    assert result.notes[0].startswith("left out images that cannot be read (3): 1 ")
    assert result.notes[0].endswith(": 'cat/cut.jpg', 'cat/empty.jpg', 'dog/page.jpg'")
    with Archive(tmp_path / "raw" / "images.tar") as archive, pytest.raises(UserError):
        archive.read("cat/cut.jpg")


def test_too_many_images_that_cannot_be_read_are_refused_and_all_are_named(tmp_path: Path) -> None:
    own = write(tmp_path / "own", few(cat=20, dog=20) | BAD)
    message = r"3 of 43 images cannot be read, more than images\.unreadable = 0\.05 allows: .*0\.07"
    with pytest.raises(LeftOutError, match=message) as error:
        read(own, tmp_path)
    assert set(error.value.left_out["file"]) == set(BAD)
    assert len(read(own, tmp_path, unreadable=0.07).index) == 40
    with pytest.raises(LeftOutError, match=r"images\.unreadable = 0 allows"):
        read(own, tmp_path, unreadable=0.0)


def test_a_class_of_which_no_image_can_be_read_is_refused(tmp_path: Path) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    own = write(tmp_path / "own", few(cat=90, dog=90) | {"owl/1.HEIC": heic, "owl/2.HEIC": heic})
    (own / "fox").mkdir()
    with pytest.raises(LeftOutError, match=r"no image of 'owl' can be read \(.*HEIC.*pillow-heif"):
        read(own, tmp_path)
    (own / "owl" / "3.jpg").write_bytes(jpeg(9000))
    notes = read(own, tmp_path).notes
    assert "class folders without an image: 'fox'" in notes


def test_values_of_more_than_8_bits_are_scaled_and_it_is_said(tmp_path: Path) -> None:
    images = few(cat=9, dog=9)
    for place in range(3):
        file = io.BytesIO()
        array = np.random.default_rng(place).integers(0, 4096, (32, 32)).astype(np.uint16)
        Image.fromarray(array).save(file, "TIFF")
        images[f"cat/{place}.tif"] = file.getvalue()
    result = read(write(tmp_path / "own", images), tmp_path)
    assert len(result.index) == 21
    said = [note for note in result.notes if "(images: " in note]
    assert said
    assert sum(int(note.split("(images: ")[1][:-1]) for note in said) == 3


def test_a_table_beside_the_images_says_classes_splits_and_groups(tmp_path: Path) -> None:
    images = {f"images/{number:04}.jpg": jpeg(number) for number in range(40)}
    rows = [
        f"{number:04},{('collie', 'poodle')[number % 2]},dog {number // 4}" for number in range(40)
    ]
    table = "\n".join(["id,breed,individual", *rows, "missing,poodle,dog 1"])
    own = write(tmp_path / "own", images | {"labels.csv": table.encode()})
    result = read(own, tmp_path)
    assert result.raw.classes == ["collie", "poodle"]
    by_group: dict[int, set[str]] = {}
    for name, split in result.splits.items():
        by_group.setdefault(int(name[-8:-4]) // 4, set()).add(split)
    assert all(len(splits) == 1 for splits in by_group.values())
    assert (
        "labels.csv: image is 'id', label is 'breed', group is 'individual' "
        "(images.columns in params.yaml names others)" in result.notes
    )
    assert "named in a table, but not there (1): 'missing'" in result.notes
    assert not result.left_out


def test_folders_of_classes_come_before_a_table_and_params_choose(tmp_path: Path) -> None:
    images = few(cat=20, dog=20)
    table = "file,label\n" + "".join(f"{name},{name[:3]}\n" for name in images)
    own = write(tmp_path / "own", images | {"list.csv": table.encode()})
    result = read(own, tmp_path)
    assert result.left_out == {"list.csv": "not an image"}
    assert (
        "folders are the classes; 'list.csv' is not used (images.table: list.csv uses it)"
        in result.notes
    )
    assert not read(own, tmp_path, table="list.csv").left_out
    with pytest.raises(UserError, match=r"images\.table = x\.csv: no such file .*'list\.csv'"):
        read(own, tmp_path, table="x.csv")


def test_a_table_that_says_other_classes_than_the_folders_wins(tmp_path: Path) -> None:
    """As with images in part_1 and part_2, which are no classes."""
    images = few(part_1=20, part_2=20)
    rows = [f"{name},{'ab'[place % 2]}" for place, name in enumerate(images)]
    own = write(tmp_path / "own", images | {"meta.csv": "\n".join(["image,dx", *rows]).encode()})
    result = read(own, tmp_path)
    assert result.raw.classes == ["a", "b"]
    assert (
        "'meta.csv' says the classes, not the folders (images.table: none uses folders)"
        in result.notes
    )
    assert read(own, tmp_path, table="none").raw.classes == ["part_1", "part_2"]


def test_a_map_of_names_gives_the_classes_their_names(tmp_path: Path) -> None:
    names = {"1": "pink primrose", "10": "globe thistle", "2": "pocket orchid"}
    own = write(tmp_path / "own", few(**dict.fromkeys(names, 9)))
    (own / "cat_to_name.json").write_text(json.dumps(names | {"3": "canterbury bells"}))
    result = read(own, tmp_path)
    assert result.raw.classes == ["pink primrose", "pocket orchid", "globe thistle"]
    assert "cat_to_name.json names the classes: '1' is 'pink primrose'" in result.notes


def test_folders_within_classes_may_be_groups(tmp_path: Path) -> None:
    images = {
        f"{label}/plant {plant}/{place}.jpg": jpeg(1000 * number + 100 * plant + place)
        for number, label in enumerate(("rose", "lily"))
        for plant in range(6)
        for place in range(4)
    }
    result = read(write(tmp_path / "own", images), tmp_path, groups="folder")
    plants: dict[str, set[str]] = {}
    for name, split in result.splits.items():
        plants.setdefault(name.rpartition("/")[0], set()).add(split)
    assert all(len(splits) == 1 for splits in plants.values())
    assert len(plants) == 12


def test_groups_that_the_data_tear_apart_are_named(tmp_path: Path) -> None:
    images = few(a=12, b=12)
    rows = [
        f"{name},{name[0]},{('train', 'val', 'test')[k % 3]},p1" for k, name in enumerate(images)
    ]
    table = "\n".join(["file,label,split,patient", *rows]).encode()
    notes = read(write(tmp_path / "own", images | {"x.csv": table}), tmp_path).notes
    assert "groups that the data put into several splits: 'p1'" in notes


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({}, "no image in it; put images into a folder for each class"),
        ({"readme.txt": b""}, "no image in it"),
        (few(roses=9), "only one class, 'roses'; a comparison needs two or more"),
        ({"1.jpg": jpeg(1), "2.jpg": jpeg(2)}, "no folder says a class, and no table of labels is"),
        (few(a=1, b=1), "2 of 2 classes have no image in val: 'a', 'b'; add images of them"),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused_in_one_line(
    tmp_path: Path, images: dict[str, bytes], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(write(tmp_path / "own", images), tmp_path)
    assert "\n" not in str(error.value)
