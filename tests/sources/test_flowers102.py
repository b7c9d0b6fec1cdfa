"""The official files become an index; no others are read."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from pipeline.base.errors import UserError
from pipeline.params import load_params
from pipeline.sources import flowers102
from tools.sandbox import PROJECT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the official files, 14 images of 2 classes, in an order that is not that of the ids."""
    scipy.io.savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[1, 2] * 7], np.uint8)})
    ids = {"trnid": [[4, 3, 2, 1]], "valid": [[5, 6, 7, 8]], "tstid": [[9, 10, 11, 12, 13, 14]]}
    scipy.io.savemat(tmp_path / "setid.mat", {name: np.array(value, np.uint16) for name, value in ids.items()})
    for constant in ("LABELS", "SPLITS"):
        name, _ = getattr(flowers102, constant)
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        monkeypatch.setattr(flowers102, constant, (name, digest))
    return tmp_path


def test_splits_keep_the_order_of_the_file_and_labels_start_at_zero(folder: Path) -> None:
    archive, index, names = flowers102.read({"path": str(folder)})
    assert archive == folder / "102flowers.tgz"
    assert index["split"].tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 6
    assert index["id"].tolist() == [4, 3, 2, 1, *range(5, 15)]
    assert index["label"].tolist() == [1, 0] * 2 + [0, 1] * 5
    assert index["member"].tolist()[0] == "jpg/image_00004.jpg"
    assert len(names) == flowers102.CLASSES == 102
    assert (names[0], names[101]) == ("pink primrose", "blackberry lily")


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
def test_no_other_file_is_parsed(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So no bytes reach scipy that could crash it, and none of its readings needs to be doubted."""
    read, parsed = scipy.io.loadmat, set()

    def watch(path: Path) -> dict[str, np.ndarray]:
        parsed.add(path.name)
        return read(path)

    monkeypatch.setattr(scipy.io, "loadmat", watch)
    whole = (folder / name).read_bytes()
    for content in (b"", b"<html>502 Bad Gateway</html>", whole[:-1], whole[:-1] + b"x", b"\x89HDF\r\n\x1a\n"):
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: sha256:\w+, not the official file; .* images\.source: indexed"):
            flowers102.read({"path": str(folder)})
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: no such file"):
        flowers102.read({"path": str(folder)})
    assert name not in parsed


def test_the_official_files_are_those_that_are_downloaded() -> None:
    download = load_params(PROJECT / "params.yaml").download
    for key, (name, sha256) in {"labels": flowers102.LABELS, "splits": flowers102.SPLITS}.items():
        assert download[key].path.endswith(f"/{name}")
        assert {checksum for _, checksum in download[key].sources} == {f"sha256:{sha256}"}
