"""Raw data in one form, whatever the source: a folder with an archive of images and two tables.

- ``images.tar``: the images as they came, in a tar file, compressed or not.
- ``index.csv``: a row an image: member (its name in the archive), id, split (train, val or test),
  label (0, 1, ...), sha256 (of the encoded image, 64 hex digits).
- ``classes.csv``: a row a class: label (0, 1, ...), name.
- ``unlabelled.csv``: a row an image without a class, to be predicted only: member, id, sha256.

An id is a non-negative int64, unique in the data set. The random views of an image are addressed by
its id, so an id belongs to the image and depends on nothing around it: Flowers-102 has the number
in the file name; the source folder takes the first 63 bits of the SHA-256 of the file, so that one
more image changes no other image's id or views.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.base.errors import UserError, listed
from pipeline.base.files import atomic
from pipeline.data.tables import write_csv

SPLITS = ("train", "val", "test")
ARCHIVE = "images.tar"
INDEX = "index.csv"
CLASSES = "classes.csv"
UNLABELLED = "unlabelled.csv"
INDEX_COLUMNS = {"member": "str", "id": "int64", "split": "str", "label": "int64", "sha256": "str"}
CLASS_COLUMNS = {"label": "int64", "name": "str"}
UNLABELLED_COLUMNS = {"member": "str", "id": "int64", "sha256": "str"}
LEFT_OUT_COLUMNS = ("file", "reason")


@dataclass(frozen=True)
class RawData:
    """What a source gives.

    Attributes:
        archive: the images.
        index: columns member, id, split, label, sha256; see above.
        classes: names of the classes, in the order of the labels.
        unlabelled: images to be predicted only: columns member, id, sha256.
        left_out: files that are not used, and why: columns file, reason.
    """

    archive: Path
    index: pd.DataFrame
    classes: list[str]
    unlabelled: pd.DataFrame = field(default_factory=lambda: _no_rows(UNLABELLED_COLUMNS))
    left_out: pd.DataFrame = field(default_factory=lambda: _no_rows(LEFT_OUT_COLUMNS))


def _no_rows(columns: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))


def write_raw(folder: Path, raw: RawData) -> None:
    """Write raw data into ``folder``.

    The archive becomes a hard link if the file system allows it, otherwise a copy, so that no stage
    copies hundreds of megabytes. DVC may put a copy in its place afterwards.
    """
    classes = pd.DataFrame({"label": range(len(raw.classes)), "name": raw.classes})
    files = [folder / name for name in (ARCHIVE, INDEX, CLASSES, UNLABELLED)]
    with atomic(*files) as (archive_file, index_file, classes_file, unlabelled_file):
        archive_file.unlink(missing_ok=True)
        try:
            os.link(raw.archive, archive_file)
        except OSError:
            shutil.copyfile(raw.archive, archive_file)
        write_csv(index_file, raw.index[list(INDEX_COLUMNS)])
        write_csv(classes_file, classes)
        write_csv(unlabelled_file, raw.unlabelled[list(UNLABELLED_COLUMNS)])


def read_classes(folder: Path) -> list[str]:
    """Names of the classes of raw data, in the order of the labels.

    Raises:
        UserError: the table is missing or is not in the form above.
    """
    path = folder / CLASSES
    table = _read_table(path, CLASS_COLUMNS)
    if table["label"].tolist() != list(range(len(table))):
        raise UserError(f"{path}: labels must be 0, 1, ... in this order")
    return table["name"].tolist()


def read_unlabelled(folder: Path) -> pd.DataFrame:
    """The images without a class: columns member, id, sha256.

    Raises:
        UserError: the table is missing or is not in the form above.
    """
    return _read_table(folder / UNLABELLED, UNLABELLED_COLUMNS)


def read_index(folder: Path, sha256_optional: bool = False) -> pd.DataFrame:
    """The index of raw data: columns member, id, split, label, sha256.

    Args:
        sha256_optional: whether the column sha256 may be missing, as in tables written by hand.

    Raises:
        UserError: a table is missing or is not in the form above.
    """
    path = folder / INDEX
    classes = len(read_classes(folder))
    index = _read_table(path, INDEX_COLUMNS, optional="sha256" if sha256_optional else None)
    for column in ("member", "id"):
        repeated = index[column][index[column].duplicated()]
        if len(repeated):
            raise UserError(f"{path}: {column} {str(repeated.iloc[0])!r} occurs twice")
    splits = set(index["split"])
    if splits != set(SPLITS):
        raise UserError(
            f"{path}: the splits are {listed(sorted(splits))}; they must be {', '.join(SPLITS)}"
        )
    if not index["label"].between(0, classes - 1).all():
        raise UserError(f"{path}: labels must be 0 to {classes - 1}, as in {CLASSES}")
    if (index["id"] < 0).any():
        raise UserError(f"{path}: ids must not be negative")
    if "sha256" in index:
        wrong = index["sha256"][~index["sha256"].str.fullmatch("[0-9a-f]{64}")]
        if len(wrong):
            raise UserError(
                f"{path}: sha256 must be 64 digits 0-9a-f, which {str(wrong.iloc[0])!r} is not"
            )
    return index


def _read_table(
    path: Path, columns: Mapping[str, str], optional: str | None = None
) -> pd.DataFrame:
    """A CSV file with exactly these columns (name: dtype) in this order, ``optional`` or not."""
    try:
        table = pd.read_csv(path, dtype=dict(columns), keep_default_na=False)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    required = [name for name in columns if name != optional]
    if list(table) not in (list(columns), required):
        names = listed([str(name) for name in table])
        raise UserError(f"{path}: has columns {names}; they must be {', '.join(columns)}")
    return table
