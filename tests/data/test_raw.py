"""Raw data has one form, and is read from exactly the images that its index names."""

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.base.errors import UserError
from pipeline.data.raw import read_archive, read_classes, read_index, write_raw
from tests.conftest import Run, jpeg, write_archive


def members(*ids: int) -> dict[str, int]:
    return {f"jpg/image_{number:05d}.jpg": number for number in ids}


INDEX = pd.DataFrame(
    {"member": ["a", "b", "c"], "id": [3, 1, 2], "split": ["train", "val", "test"], "label": [0, 1, 1]}
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "archive").write_bytes(b"a tar file")
    return tmp_path / "archive"


def test_raw_data_is_written_and_read(tmp_path: Path, archive: Path) -> None:
    write_raw(tmp_path / "raw", archive, INDEX, ["rose", "NA"])
    assert read_index(tmp_path / "raw").equals(INDEX)
    assert read_classes(tmp_path / "raw") == ["rose", "NA"]
    assert (tmp_path / "raw" / "images.tar").samefile(archive), "a second copy was made"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member": ["a", "b", "a"]}, r"index\.csv: member a stands twice"),
        ({"id": [3, 1, 3]}, r"index\.csv: id 3 stands twice"),
        ({"id": [3, 1, -2]}, "ids not negative"),
        ({"split": ["train", "val", "holdout"]}, "the splits are holdout, train, val; they must be train, val, test"),
        ({"split": ["train", "train", "test"]}, "the splits are test, train; they must be train, val, test"),
        ({"label": [0, 1, 2]}, "labels must be 0 to 1"),
        ({"label": ["rose", 1, 1]}, r"index\.csv: cannot be read"),
        ({"colour": [0, 0, 0]}, "has columns member, id, split, label, colour; they must be member, id, split, label"),
    ],
)
def test_an_index_that_breaks_a_promise_is_refused(
    tmp_path: Path, archive: Path, change: dict[str, Any], message: str
) -> None:
    write_raw(tmp_path / "raw", archive, INDEX.assign(**change), ["rose", "lily"])
    with pytest.raises(UserError, match=message):
        read_index(tmp_path / "raw")


def test_archive_with_too_few_images(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "few.tgz", {1: b"a", 3: b"b"})
    with pytest.raises(UserError, match=r"holds 2 of the 3 images .*image_00002\.jpg is missing"):
        list(read_archive(archive, members(1, 2, 3)))


@pytest.mark.parametrize("damage", ["truncated", "not gzip"])
def test_damaged_archive(tmp_path: Path, damage: str) -> None:
    content = write_archive(tmp_path / "whole.tgz", {n: jpeg(n) for n in range(1, 9)}).read_bytes()
    path = tmp_path / "bad.tgz"
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else gzip.decompress(content)[:700])
    with pytest.raises(UserError, match=r"bad\.tgz: cannot be read as a tar file"):
        list(read_archive(path, members(*range(1, 9))))


def test_stage_with_an_unreadable_jpeg_writes_nothing(project: Path, run: Run) -> None:
    archive = project / "data" / "raw" / "images.tar"
    original = archive.read_bytes()
    prepared = {path.name: path.read_bytes() for path in (project / "data" / "pixels").iterdir()}
    try:
        images = {number: content for number, _, content in read_archive(archive, members(*range(1, 37)))}
        archive.unlink()
        write_archive(archive, images | {20: b"\xff\xd8 damaged"})
        result = run(project, "stages", "prepare")
    finally:
        archive.write_bytes(original)
    assert result.returncode == 1
    assert "error: data/raw/images.tar, jpg/image_00020.jpg: not a readable image" in result.stdout
    assert "Traceback" not in result.stdout
    assert {path.name: path.read_bytes() for path in (project / "data" / "pixels").iterdir()} == prepared
