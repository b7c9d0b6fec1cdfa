"""The official files become an index, or are refused."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from pipeline.base.errors import UserError
from pipeline.sources.flowers102 import CLASSES, SIZES, check_splits, read, read_splits

NAMES = ("trnid", "valid", "tstid")
TINY = {"train": 4, "val": 4, "test": 6}


@pytest.fixture
def mat_files(tmp_path: Path) -> tuple[Path, Path]:
    """14 images of 2 classes, 2 a class in train and val, in an order that is not that of the ids."""
    labels, splits = tmp_path / "imagelabels.mat", tmp_path / "setid.mat"
    scipy.io.savemat(labels, {"labels": np.array([[1, 2] * 7], np.uint8)})
    ids = {"trnid": [[4, 3, 2, 1]], "valid": [[5, 6, 7, 8]], "tstid": [[9, 10, 11, 12, 13, 14]]}
    scipy.io.savemat(splits, {name: np.array(value, np.uint16) for name, value in ids.items()})
    return labels, splits


def test_splits_keep_the_order_of_the_file_and_labels_start_at_zero(mat_files: tuple[Path, Path]) -> None:
    index = read_splits(*mat_files)
    train = index[index["split"] == "train"]
    assert train["id"].tolist() == [4, 3, 2, 1]
    assert train["label"].tolist() == [1, 0, 1, 0]
    assert train["member"].tolist()[0] == "jpg/image_00004.jpg"
    check_splits(index, 2, TINY)


@pytest.mark.parametrize(
    ("split", "column", "values", "message"),
    [
        ("train", "id", [4, 3, 2, 2], "image 2 stands twice"),
        ("val", "id", [4, 6, 7, 8], "image 4 stands twice"),
        ("train", "label", [0, 0, 0, 1], "1 to 3 train images a class"),
        ("test", "label", [0] * 6, "the test images show 1 classes"),
        (
            "test",
            "label",
            [0, 1, 2, 0, 1, 2],
            "the test images show 3 classes with labels 0..2, in place of 2",
        ),
    ],
)
def test_splits_that_break_a_promise_are_refused(
    mat_files: tuple[Path, Path], split: str, column: str, values: list[int], message: str
) -> None:
    index = read_splits(*mat_files)
    index.loc[index["split"] == split, column] = values
    with pytest.raises(UserError, match=message):
        check_splits(index, 2, TINY)


def test_splits_of_another_size_are_refused(mat_files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"4 train images in place of 5"):
        check_splits(read_splits(*mat_files), 2, TINY | {"train": 5})


def test_what_is_no_matlab_file_is_named(tmp_path: Path, mat_files: tuple[Path, Path]) -> None:
    page = tmp_path / "page.mat"
    page.write_text("<html>502 Bad Gateway</html>")
    with pytest.raises(UserError, match=r"page\.mat: not the expected MATLAB file"):
        read_splits(page, mat_files[1])


def test_the_official_split_and_names_are_expected(tmp_path: Path) -> None:
    assert SIZES == {"train": 1020, "val": 1020, "test": 6149}
    labels = np.arange(8189) % CLASSES + 1
    scipy.io.savemat(tmp_path / "imagelabels.mat", {"labels": labels[None]})
    ids = np.split(np.arange(1, 8190), [1020, 2040])
    scipy.io.savemat(tmp_path / "setid.mat", {name: part[None] for name, part in zip(NAMES, ids, strict=True)})
    archive, index, names = read({"path": tmp_path})
    assert archive == tmp_path / "102flowers.tgz"
    assert index["split"].value_counts().to_dict() == SIZES
    assert index["label"].tolist() == (labels - 1).tolist()
    assert len(names) == CLASSES == 102
    assert (names[0], names[101]) == ("pink primrose", "blackberry lily")
