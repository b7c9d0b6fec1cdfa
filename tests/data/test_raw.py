"""Raw data has one form, whatever its source."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.base.errors import UserError
from pipeline.data.raw import RawData, read_classes, read_index, write_raw
from pipeline.params import Images, Params, Shares
from stages import images
from tests.conftest import jpeg

INDEX = pd.DataFrame(
    {
        "member": ["a", "b", "c"],
        "id": [3, 1, 2],
        "split": ["train", "val", "test"],
        "label": [0, 1, 1],
        "sha256": ["00ff" * 16, "0" * 64, "0" * 64],
    }
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "archive").write_bytes(b"a tar file")
    return tmp_path / "archive"


def test_raw_data_is_written_and_read(tmp_path: Path, archive: Path) -> None:
    raw = tmp_path / "raw"
    write_raw(raw, RawData(archive, INDEX, ["rose", "NA"]))
    assert read_index(raw).equals(INDEX)
    assert read_classes(raw) == ["rose", "NA"]
    assert (raw / "images.tar").samefile(archive), "a second copy was made"
    assert (raw / "index.csv").read_text().startswith("member,id,split,label,sha256\na,3,train,0,0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member": ["a", "b", "a"]}, r"index\.csv: member 'a' occurs twice"),
        ({"id": [3, 1, 3]}, r"index\.csv: id '3' occurs twice"),
        ({"id": [3, 1, -2]}, "ids must not be negative"),
        ({"split": ["train", "val", "holdout"]}, "the splits are 'holdout', 'train', 'val'; they"),
        ({"split": ["train", "train", "test"]}, "they must be train, val, test"),
        ({"label": [0, 1, 2]}, r"labels must be 0 to 1, as in classes\.csv"),
        ({"label": ["rose", 1, 1]}, r"index\.csv: cannot be read"),
        ({"sha256": ["0" * 64, "0" * 63, ""]}, "sha256 must be 64 digits 0-9a-f, which '000"),
        ({"sha256": ["0" * 64, "0" * 64, "AB" * 32]}, "which 'ABAB.*AB' is not"),
    ],
)
def test_an_index_in_another_form_is_refused(
    tmp_path: Path, archive: Path, change: dict[str, Any], message: str
) -> None:
    write_raw(tmp_path, RawData(archive, INDEX.assign(**change), ["rose", "lily"]))
    with pytest.raises(UserError, match=message):
        read_index(tmp_path)


def test_other_columns_are_refused_but_tables_by_hand_may_lack_sha256(
    tmp_path: Path, archive: Path
) -> None:
    write_raw(tmp_path, RawData(archive, INDEX, ["rose", "lily"]))
    by_hand = INDEX.drop(columns="sha256")
    by_hand.to_csv(tmp_path / "index.csv", index=False)
    assert read_index(tmp_path, sha256_optional=True).equals(by_hand)
    with pytest.raises(UserError, match=r"columns 'member', .*; they must be member, id, split, l"):
        read_index(tmp_path)
    INDEX.assign(colour=0).to_csv(tmp_path / "index.csv", index=False)
    with pytest.raises(UserError, match=r"has columns .*'colour'; they must be"):
        read_index(tmp_path, sha256_optional=True)


@pytest.mark.parametrize("labels", [[1, 2], [1, 0], [0, 0]])
def test_classes_are_numbered_from_zero(tmp_path: Path, labels: list[int]) -> None:
    classes = pd.DataFrame({"label": labels, "name": ["rose", "lily"]})
    classes.to_csv(tmp_path / "classes.csv", index=False)
    with pytest.raises(UserError, match=r"classes\.csv: labels must be 0, 1, \.\.\. in this order"):
        read_classes(tmp_path)


def test_the_stage_images_leaves_raw_data_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val", "test"):
        for number, label in enumerate(("rose", "lily")):
            folder = tmp_path / "own" / split / label
            folder.mkdir(parents=True)
            (folder / "1.jpg").write_bytes(jpeg(number))
    shares = Shares(val=0.1, test=0.1, seed=0)
    settings = Images(source="folder", path="own", split=shares)
    images.main(Params.model_construct(images=settings))
    assert len(read_index(Path("data/raw"))) == 6
    files = {path.as_posix() for path in Path("data").rglob("*") if path.is_file()}
    names = ("images.tar", "index.csv", "classes.csv", "unlabelled.csv")
    assert files == {f"data/raw/{name}" for name in names}
    assert Path("report/left_out.csv").read_text() == "file,reason\n"
