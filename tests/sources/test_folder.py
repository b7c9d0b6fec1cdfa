"""One's own images: classes are folders, splits follow the content, nothing is left out in silence."""

import hashlib
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from pipeline.base.errors import UserError
from pipeline.data.raw import read_archive, read_index, write_raw
from pipeline.sources import folder
from tests.conftest import jpeg

SHARES = {"val": 0.2, "test": 0.2, "seed": 0}
CLASSES = ["a tiger's eye", "class 2", "class 10", "日本 🌸"]


def write(root: Path, images: dict[str, bytes]) -> Path:
    for name, content in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def many(each: int = 30) -> dict[str, bytes]:
    return {f"{name}/{place}.jpg": jpeg(100 * k + place) for k, name in enumerate(CLASSES) for place in range(each)}


def read(path: Path, scratch: Path, **shares: float) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Index, classes and notes of the source, the index as it comes back from raw data."""
    notes: list[str] = []
    settings = {"path": str(path), "split": SHARES | shares}
    archive, index, classes = folder.read(settings, scratch / "scratch", notes.append)
    write_raw(scratch / "raw", archive, index, classes)
    return read_index(scratch / "raw"), classes, notes


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    images = many()
    index, classes, notes = read(write(tmp_path / "own images", images), tmp_path)
    assert classes == CLASSES  # in natural order
    assert set(index["member"]) == set(images)
    assert [name.split("/")[0] for name in index["member"]] == [classes[label] for label in index["label"]]
    sizes = index["split"].value_counts()
    assert 12 < sizes["val"] < 36
    assert 12 < sizes["test"] < 36
    assert notes == [
        f"{tmp_path}/own images: 4 classes, {sizes['train']} train, {sizes['val']} val, {sizes['test']} test images"
    ]
    ids = dict(zip(index["member"], index["id"], strict=True))
    members = {number: content for number, _, content in read_archive(tmp_path / "raw" / "images.tar", ids)}
    assert members == {ids[name]: content for name, content in images.items()}
    for name, content in images.items():
        assert ids[name] == int.from_bytes(hashlib.sha256(content).digest()[:8]) >> 1


def test_classes_that_differ_only_in_case_are_two_and_named(tmp_path: Path) -> None:
    images = {
        f"{name}/{place}.jpg": jpeg(100 * k + place) for k, name in enumerate(["Rose", "rose"]) for place in range(30)
    }
    _, classes, notes = read(write(tmp_path / "own", images), tmp_path)
    assert classes == ["Rose", "rose"]
    assert notes[0].endswith("classes whose names differ only in upper and lower case: 'Rose', 'rose'")


def test_adding_removing_and_renaming_images_moves_no_other(tmp_path: Path) -> None:
    images = many()
    before = read(write(tmp_path / "own", images), tmp_path)[0].set_index("member")
    (tmp_path / "own" / "class 2" / "0.jpg").unlink()
    (tmp_path / "own" / "class 2" / "1.jpg").rename(tmp_path / "own" / "class 2" / "another name.jpg")
    write(tmp_path / "own", {"class 2/new.jpg": jpeg(5000)})
    after = read(tmp_path / "own", tmp_path)[0].set_index("member")
    both = before.index.intersection(after.index)
    assert len(both) == len(images) - 2
    assert before.loc[both].equals(after.loc[both])
    renamed, old = after.loc["class 2/another name.jpg"], before.loc["class 2/1.jpg"]
    assert dict(renamed) == dict(old)
    other = read(tmp_path / "own", tmp_path, seed=1)[0].set_index("member")
    assert not other["split"].equals(after["split"])
    assert other["id"].equals(after["id"])


def test_identical_images_share_a_split_and_have_ids_of_their_own(tmp_path: Path) -> None:
    images = many() | {f"class 2/copy {number}.jpg": jpeg(0) for number in range(5)}
    index, _, notes = read(write(tmp_path / "own", images), tmp_path)
    names = [name for name, content in images.items() if content == jpeg(0)]
    alike = index[index["member"].isin(names)]
    assert len(alike) == 6
    assert alike["split"].nunique() == 1
    assert alike["id"].is_unique
    assert f"{tmp_path}/own: one image stands in several splits or classes, so figures are too good: " in notes[0]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tgz"])
def test_splits_of_ones_own_are_kept_and_archives_are_as_folders(tmp_path: Path, kind: str) -> None:
    images = {f"{split}/{name}": content for split in ("train", "test") for name, content in many(3).items()}
    images = {name: jpeg(place) for place, name in enumerate(images)}
    path = write(tmp_path / "photos", images)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            for file in sorted(path.rglob("*")):
                archive.write(file, file.relative_to(tmp_path))
            archive.writestr("__MACOSX/photos/._0.jpg", "not an image")
    elif kind != "folder":
        with tarfile.open(tmp_path / f"x.{kind}", "w:gz" if kind == "tgz" else "w") as tar:
            tar.add(path, "photos")
    path = path if kind == "folder" else tmp_path / f"x.{kind}"
    index, classes, notes = read(path, tmp_path, val=0.3)
    assert classes == CLASSES
    parts = index["member"].str.removeprefix("photos/").str.split("/").str[0]
    assert (index.loc[index["split"] == "test", "member"].index == index.index[parts == "test"]).all()
    assert set(index.loc[parts == "train", "split"]) == {"train", "val"}
    assert "no folder val, so images.split.val of the images of train become val" in " ".join(notes)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    own = write(tmp_path / "own", many() | {"class 2/notes.txt": b"", "class 2/photo.HEIC": b"", ".DS_Store": b""})
    (own / "class 2" / "circle").symlink_to(own)
    (own / "class 2" / "outside.jpg").symlink_to("/etc/hostname")
    os.mkfifo(own / "class 2" / "pipe.jpg")
    (own / os.fsdecode(b"class 2/\xff.jpg")).write_bytes(jpeg(1))
    index, _, notes = read(own, tmp_path)
    assert len(index) == 120
    assert "left out, as links or no images (7): '.DS_Store', 'class 2/circle', " in notes[0]
    assert "HEIC must be converted first" in notes[1]


def few(**classes: int) -> dict[str, bytes]:
    return {f"{name}/{k}.jpg": jpeg(1000 * ord(name[-1]) + k) for name, size in classes.items() for k in range(size)}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({}, "no image in it; put images into a folder for each class"),
        ({"readme.txt": b""}, "no image in it"),
        (few(roses=9), "only one class, 'roses'; a comparison needs two or more"),
        (few(a=9) | {"b.jpg": b"", "c/d/e.jpg": b""}, "2 images do not lie at CLASS/IMAGE: 'b.jpg', 'c/d/e.jpg'"),
        (
            {f"train/{name}": content for name, content in few(a=9, b=9).items()} | {"more/a/1.jpg": jpeg(1)},
            "1 images do not lie at train/CLASS/IMAGE, val/CLASS/IMAGE or test/CLASS/IMAGE: 'more/a/1.jpg'",
        ),
        (
            few(a=1, b=1),
            r"\d of 2 classes have no image in (train|val|test): '.'.*; add images, or change images.split",
        ),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, images: dict[str, bytes], message: str
) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(UserError, match=message) as error:
        read(write(tmp_path / "own", images), tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"<html>")
    for name, message in {"x.zip": "cannot be read as a tar file", "nothing": "no folder, zip or tar file"}.items():
        with pytest.raises(UserError, match=message):
            read(tmp_path / name, tmp_path)


def write_zip(path: Path, *more: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in [*many(12).items(), *more]:
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("/etc/1.jpg", 0, "'/etc/1.jpg': its name leads out"),
        ("../1.jpg", 0, "'../1.jpg': its name leads out"),
        ("class 2/1.jpg", 0, "'class 2/1.jpg': stands twice"),
        ("class 2/x.jpg", 9999, "'class 2/x.jpg': its size is given as 9,999 bytes"),
    ],
)
def test_a_crafted_zip_is_refused_and_the_entry_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, message: str
) -> None:
    monkeypatch.setattr("pipeline.data.raw.LARGEST", 9998)
    with pytest.raises(UserError, match=message):
        read(write_zip(tmp_path / "x.zip", (name, bytes(size))), tmp_path)


def test_in_a_zip_links_are_left_out_and_all_that_is_damaged_is_named(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("class 2/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write_zip(tmp_path / "x.zip", (link, b"/etc/hostname"))
    assert "left out, as links or no images (1): 'class 2/link.jpg'" in read(path, tmp_path)[2][0]
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        for name in ("class 2/3.jpg", "class 10/5.jpg"):
            content[archive.getinfo(name).header_offset + 300] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"2 files cannot be read: 'class 10/5.jpg', 'class 2/3.jpg'"):
        read(path, tmp_path)
    path.write_bytes(content[:2000])
    with pytest.raises(UserError, match="cannot be read as a zip file"):
        read(path, tmp_path)


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses them; a test that runs as root cannot make it do so."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(path)

    own = write(tmp_path / "own", many(12))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"48 files cannot be read: .*eye/0.jpg.* and 38 more"):
        read(own, tmp_path)
