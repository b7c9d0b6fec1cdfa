"""The official files become an index; no others are read."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import Flowers102

from pipeline.base.errors import UserError
from pipeline.data.raw import RawData
from pipeline.params import Images, Shares, load_params
from pipeline.sources import flowers102
from pipeline.sources.flowers102 import OfficialFile
from tests.conftest import write_archive
from tools.sandbox import PROJECT

IDS = {"trnid": [4, 3, 2, 1], "valid": [5, 6, 7, 8], "tstid": [9, 10, 11, 12, 13, 14]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Like the official files, but 14 images of 2 classes, in an order that is not by id."""
    vectors: dict[str, dict[str, np.ndarray]] = {
        "LABELS": {"labels": np.array([[1, 2] * 7], np.uint8)},
        "SPLITS": {name: np.array([ids], np.uint16) for name, ids in IDS.items()},
    }
    for constant, content in vectors.items():
        path = tmp_path / getattr(flowers102, constant).name
        scipy.io.savemat(path, content)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(flowers102, constant, OfficialFile(path.name, digest))
    write_archive(tmp_path / "102flowers.tgz", {number: b"%d" % number for number in range(1, 15)})
    return tmp_path


def read(folder: Path) -> RawData:
    images = Images(source="flowers102", path=str(folder), split=Shares(val=0.1, test=0.1, seed=0))
    return flowers102.read(images, folder / "unused", print)


def test_splits_keep_the_order_of_the_file_and_labels_start_at_zero(folder: Path) -> None:
    raw = read(folder)
    assert raw.archive == folder / "102flowers.tgz"
    assert raw.index["split"].tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 6
    assert raw.index["id"].tolist() == [4, 3, 2, 1, *range(5, 15)]
    assert raw.index["label"].tolist() == [1, 0] * 2 + [0, 1] * 5
    assert raw.index["member"].tolist()[0] == "jpg/image_00004.jpg"
    digests = [hashlib.sha256(b"%d" % image_id).hexdigest() for image_id in raw.index["id"]]
    assert raw.index["sha256"].tolist() == digests


def test_the_names_of_the_classes_are_those_of_torchvision(folder: Path) -> None:
    assert read(folder).classes == list(Flowers102.classes)
    assert len(flowers102.CLASSES) == 102


def test_an_archive_that_lacks_images_is_refused_in_one_line(folder: Path) -> None:
    write_archive(folder / "102flowers.tgz", dict.fromkeys(range(1, 14), b"x"))
    message = r"102flowers\.tgz: has 13 of the 14 images of the index \(jpg/image_00014\.jpg is mi"
    with pytest.raises(UserError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value)
    (folder / "102flowers.tgz").unlink()
    with pytest.raises(UserError, match=r"102flowers\.tgz: no such file; images\.path must be"):
        read(folder)


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
def test_no_other_file_reaches_scipy(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader of MATLAB files is not made for bytes that nobody has checked."""
    load = scipy.io.loadmat
    parsed = set()

    def watch(path: Path) -> dict[str, np.ndarray]:
        parsed.add(path.name)
        return load(path)

    monkeypatch.setattr(scipy.io, "loadmat", watch)
    whole = (folder / name).read_bytes()
    for content in (b"", b"<html>502 Bad Gateway</html>", whole[:-1], whole[:-1] + b"x"):
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: sha256:\w+, not the official file; .*inde"):
            read(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file"):
        read(folder)
    assert name not in parsed


def test_the_official_files_are_those_that_are_downloaded() -> None:
    download = load_params(PROJECT / "params.yaml").download
    for key, file in {"labels": flowers102.LABELS, "splits": flowers102.SPLITS}.items():
        assert download[key].path.endswith(f"/{file.name}")
        checksums = {checksum for _, checksum in download[key].sources}
        assert checksums == {f"sha256:{file.sha256}"}
    assert download["archive"].path.endswith(f"/{flowers102.ARCHIVE}")
