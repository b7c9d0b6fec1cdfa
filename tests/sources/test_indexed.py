"""Raw data that a person made, or that were drawn, are verified and completed."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from pipeline.base.errors import UserError
from pipeline.data.raw import RawData
from pipeline.params import Images, Shares
from pipeline.sources import indexed
from tests.conftest import write_archive

IMAGES = {1: b"one", 2: b"two", 3: b"three"}
INDEX = pd.DataFrame(
    {
        "member": [f"jpg/image_{number:05d}.jpg" for number in IMAGES],
        "id": list(IMAGES),
        "split": ["train", "val", "test"],
        "label": [0, 1, 1],
    }
)
DIGESTS = [hashlib.sha256(content).hexdigest() for content in IMAGES.values()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_archive(tmp_path / "images.tar", IMAGES)
    (tmp_path / "classes.csv").write_text("label,name\n0,rose\n1,lily\n")
    INDEX.to_csv(tmp_path / "index.csv", index=False)
    return tmp_path


def read(folder: Path) -> RawData:
    images = Images(source="indexed", path=str(folder), split=Shares(val=0.1, test=0.1, seed=0))
    return indexed.read(images, folder / "unused", print)


def test_digests_are_computed_if_the_index_has_none(folder: Path) -> None:
    raw = read(folder)
    assert raw.archive == folder / "images.tar"
    assert raw.classes == ["rose", "lily"]
    assert raw.index.equals(INDEX.assign(sha256=DIGESTS))


def test_digests_of_the_index_must_be_right(folder: Path) -> None:
    INDEX.assign(sha256=DIGESTS).to_csv(folder / "index.csv", index=False)
    assert read(folder).index["sha256"].tolist() == DIGESTS
    INDEX.assign(sha256=DIGESTS[::-1]).to_csv(folder / "index.csv", index=False)
    with pytest.raises(UserError, match=r"index\.csv: sha256 of 'jpg/image_00001\.jpg' is not th"):
        read(folder)


def test_missing_files_and_images_are_named(folder: Path) -> None:
    write_archive(folder / "images.tar", {1: b"one", 3: b"three"})
    with pytest.raises(UserError, match=r"has 2 of the 3 images .*image_00002\.jpg is missing"):
        read(folder)
    (folder / "images.tar").unlink()
    with pytest.raises(UserError, match=r"images\.tar: no such file; images\.path must have im"):
        read(folder)
