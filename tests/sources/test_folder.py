"""A person's own images: folders are classes, content decides splits, nothing is lost silently."""

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from pipeline.base.errors import UserError
from pipeline.data.archive import Archive
from pipeline.data.raw import read_index, write_raw
from pipeline.params import Images, Shares
from pipeline.sources import folder
from tests.conftest import jpeg

CLASSES = ["a tiger's eye", "class 2", "class 10", "日本 🌸"]  # in natural order
SHARES = Shares(val=0.2, test=0.2, seed=0)


def some_images(per_class: int = 30) -> dict[str, bytes]:
    """Images by name, each different from all others."""
    return {
        f"{label}/{place}.jpg": jpeg(100 * number + place)
        for number, label in enumerate(CLASSES)
        for place in range(per_class)
    }


def write(root: Path, images: Mapping[str, bytes]) -> Path:
    for name, content in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@dataclass(frozen=True)
class Result:
    """What the source gave, as it comes back from raw data."""

    index: pd.DataFrame
    classes: list[str]
    notes: list[str]


def read(path: Path, scratch: Path, split: Shares = SHARES) -> Result:
    notes: list[str] = []
    images = Images(source="folder", path=str(path), split=split)
    raw = folder.read(images, scratch / "scratch", notes.append)
    write_raw(scratch / "raw", raw.archive, raw.index, raw.classes)
    return Result(read_index(scratch / "raw"), raw.classes, notes)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    images = some_images()
    result = read(write(tmp_path / "own images", images), tmp_path)
    index = result.index.set_index("member")
    assert result.classes == CLASSES
    assert set(index.index) == set(images)
    for name, content in images.items():
        digest = hashlib.sha256(content)
        row = index.loc[name].to_dict()
        assert CLASSES[row["label"]] == name.split("/")[0]
        assert row["sha256"] == digest.hexdigest()
        assert row["id"] == int.from_bytes(digest.digest()[:8]) >> 1
    with Archive(tmp_path / "raw" / "images.tar") as archive:
        assert {name: archive.read(name) for name in images} == images

    sizes = index["split"].value_counts()
    assert 12 < sizes["val"] < 36
    assert 12 < sizes["test"] < 36
    counts = f"{sizes['train']} train, {sizes['val']} val, {sizes['test']} test images"
    assert result.notes == [f"{tmp_path}/own images: 4 classes, {counts}"]


def test_classes_that_differ_only_in_case_are_two_and_noted(tmp_path: Path) -> None:
    images = {
        f"{label}/{place}.jpg": jpeg(100 * number + place)
        for number, label in enumerate(["Rose", "rose"])
        for place in range(30)
    }
    result = read(write(tmp_path / "own", images), tmp_path)
    assert result.classes == ["Rose", "rose"]
    assert result.notes[0].endswith("differ only in upper and lower case: 'Rose', 'rose'")


def test_adding_removing_and_renaming_images_moves_no_other(tmp_path: Path) -> None:
    images = some_images()
    own = write(tmp_path / "own", images)
    before = read(own, tmp_path).index.set_index("member")
    (own / "class 2" / "0.jpg").unlink()
    (own / "class 2" / "1.jpg").rename(own / "class 2" / "renamed.jpg")
    write(own, {"class 2/new.jpg": jpeg(5000)})
    after = read(own, tmp_path).index.set_index("member")

    both = before.index.intersection(after.index)
    assert len(both) == len(images) - 2
    assert before.loc[both].equals(after.loc[both])
    assert dict(after.loc["class 2/renamed.jpg"]) == dict(before.loc["class 2/1.jpg"])


def test_another_seed_draws_other_splits_and_changes_no_id(tmp_path: Path) -> None:
    own = write(tmp_path / "own", some_images())
    first = read(own, tmp_path).index
    second = read(own, tmp_path, Shares(val=0.2, test=0.2, seed=1)).index
    assert first["id"].equals(second["id"])
    assert not first["split"].equals(second["split"])


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
        f"{tmp_path}/own: one image is in several splits or classes, which makes accuracies too"
    )


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tgz"])
def test_splits_that_folders_say_are_kept_and_archives_are_like_folders(
    tmp_path: Path, kind: str
) -> None:
    names = [f"{split}/{name}" for split in ("train", "test") for name in some_images(3)]
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

    result = read(path, tmp_path, Shares(val=0.3, test=0.2, seed=0))
    assert result.classes == CLASSES
    folders = result.index["member"].str.removeprefix("photos/").str.split("/").str[0]
    assert set(result.index["split"][folders == "test"]) == {"test"}
    assert set(result.index["split"][folders == "train"]) == {"train", "val"}
    notes = " ".join(result.notes)
    assert "no folder val, so the share images.split.val of the images of train becomes" in notes


def test_files_that_are_not_images_are_left_out_with_a_note(tmp_path: Path) -> None:
    others = {"class 2/notes.txt": b"", "class 2/photo.HEIC": b"", ".DS_Store": b""}
    own = write(tmp_path / "own", some_images() | others)
    (own / "class 2" / "circle").symlink_to(own)
    (own / "class 2" / "outside.jpg").symlink_to("/etc/hostname")
    os.mkfifo(own / "class 2" / "pipe.jpg")
    (own / os.fsdecode(b"class 2/\xff.jpg")).write_bytes(jpeg(1))
    result = read(own, tmp_path)
    assert len(result.index) == 120
    assert (
        "left out links and files that are not images (7): '.DS_Store', 'class 2/circle', "
        in result.notes[0]
    )
    assert "HEIC images must be converted first" in result.notes[1]


def few(**classes: int) -> dict[str, bytes]:
    """So many images of each class."""
    return {
        f"{label}/{number}.jpg": jpeg(1000 * ord(label[-1]) + number)
        for label, size in classes.items()
        for number in range(size)
    }


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({}, "no image in it; put images into a folder for each class"),
        ({"readme.txt": b""}, "no image in it"),
        (few(roses=9), "only one class, 'roses'; a comparison needs two or more"),
        (
            few(a=9) | {"b.jpg": b"", "c/d/e.jpg": b""},
            "2 images are not at CLASS/IMAGE: 'b.jpg', 'c/d/e.jpg'",
        ),
        (
            {f"train/{name}": content for name, content in few(a=9, b=9).items()}
            | {"more/a/1.jpg": jpeg(1)},
            "1 images are not at train/CLASS/IMAGE, .* or test/CLASS/IMAGE: 'more/a/1.jpg'",
        ),
        (
            few(a=1, b=1),
            r"\d of 2 classes have no image in (train|val|test): '.'.*; add images, or change",
        ),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused_in_one_line(
    tmp_path: Path, images: dict[str, bytes], message: str
) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(UserError, match=message) as error:
        read(write(tmp_path / "own", images), tmp_path)
    assert "\n" not in str(error.value)


def test_a_path_that_is_not_a_folder_or_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images\.path = .*nothing: no such folder, zip or tar"):
        read(tmp_path / "nothing", tmp_path)
    (tmp_path / "x.zip").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"x\.zip: cannot be read as a tar file"):
        read(tmp_path / "x.zip", tmp_path)


def write_zip(path: Path, *more: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    """A zip file of images and of ``more``, whose names may occur twice."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in [*some_images(12).items(), *more]:
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("/etc/1.jpg", 0, "'/etc/1.jpg': its name points out"),
        ("../1.jpg", 0, "'../1.jpg': its name points out"),
        ("class 2/1.jpg", 0, "'class 2/1.jpg': occurs twice"),
        ("class 2/x.jpg", 9999, "'class 2/x.jpg': its size is given as 9,999 bytes"),
    ],
)
def test_a_crafted_zip_is_refused_and_the_entry_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, message: str
) -> None:
    monkeypatch.setattr("pipeline.data.archive.LARGEST", 9998)
    with pytest.raises(UserError, match=message):
        read(write_zip(tmp_path / "x.zip", (name, bytes(size))), tmp_path)


def test_links_in_a_zip_are_left_out(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("class 2/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write_zip(tmp_path / "x.zip", (link, b"/etc/hostname"))
    notes = read(path, tmp_path).notes
    assert "left out links and files that are not images (1): 'class 2/link.jpg'" in notes[0]


def test_everything_that_is_damaged_in_a_zip_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        for name in ("class 2/3.jpg", "class 10/5.jpg"):
            content[archive.getinfo(name).header_offset + 300] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"2 files cannot be read: 'class 10/5.*, 'class 2/3.jpg'"):
        read(path, tmp_path)
    path.write_bytes(content[:2000])
    with pytest.raises(UserError, match="cannot be read as a zip file"):
        read(path, tmp_path)


def test_all_files_that_cannot_be_read_are_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses them; a test that runs as root cannot make it do so."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(path)

    own = write(tmp_path / "own", some_images(12))
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"48 files cannot be read: .*eye/0.jpg.* and 38 more"):
        read(own, tmp_path)
