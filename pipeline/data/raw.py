"""Raw data in one form, whatever the source: an archive of encoded images, and two tables.

- ``images.tar``: the images as they came, in a tar file, compressed or not.
- ``index.csv``: a row an image: member (its name in the archive), id, split (train, val or test), label (0, 1, ...).
- ``classes.csv``: a row a class: label (0, 1, ...), name.

An id is a non-negative int64, unique in the data set. It addresses the random views of its image, so it belongs to
the image and to nothing around it: Flowers-102 has the number in the file name; the source folder takes the first 63
bits of the SHA-256 of the file, so that one more image changes no other's id, split or views.
"""

import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from pipeline.base.errors import UserError
from pipeline.base.files import atomic, write_csv

SPLITS = ("train", "val", "test")
SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of files of images
NAMES = ("images.tar", "index.csv", "classes.csv")


def write_raw(folder: Path, archive: Path, index: pd.DataFrame, classes: list[str]) -> None:
    """Write raw data of a source into ``folder``.

    The archive becomes a hard link, so that no stage copies hundreds of megabytes (a copy on another file system). DVC
    may put a copy in its place afterwards, as its link types say; its cache holds the archive once.

    Args:
        index: columns member, id, split, label.
        classes: names in the order of the labels.
    """
    with atomic(*(folder / name for name in NAMES)) as (images_file, index_file, classes_file):
        images_file.unlink(missing_ok=True)
        try:
            os.link(archive, images_file)
        except OSError:
            shutil.copyfile(archive, images_file)
        write_csv(index_file, index)
        write_csv(classes_file, pd.DataFrame({"label": range(len(classes)), "name": classes}))


def read_classes(folder: Path) -> list[str]:
    """Names of the classes of raw data, in the order of the labels.

    Raises:
        UserError: the table is missing or is not what the description above says.
    """
    table = _read_table(folder / "classes.csv", {"label": "int64", "name": "str"})
    if table["label"].tolist() != list(range(len(table))):
        raise UserError(f"{folder / 'classes.csv'}: labels must be 0, 1, ... in this order")
    return table["name"].tolist()


def read_index(folder: Path) -> pd.DataFrame:
    """The index of raw data: columns member, id, split, label.

    Raises:
        UserError: a table is missing or is not what the description above says.
    """
    path, classes = folder / "index.csv", len(read_classes(folder))
    index = _read_table(path, {"member": "str", "id": "int64", "split": "str", "label": "int64"})
    for column in ("member", "id"):
        if (twice := index[column].duplicated()).any():
            raise UserError(f"{path}: {column} {index[column][twice].iloc[0]} stands twice")
    splits = set(index["split"])
    if splits != set(SPLITS):
        raise UserError(f"{path}: the splits are {', '.join(sorted(splits))}; they must be {', '.join(SPLITS)}")
    if not index["label"].between(0, classes - 1).all() or (index["id"] < 0).any():
        raise UserError(f"{path}: labels must be 0 to {classes - 1}, as in classes.csv, and ids not negative")
    return index


def _read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=dict(columns), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if list(table) != list(columns):
        raise UserError(f"{path}: has columns {', '.join(map(str, table))}; they must be {', '.join(columns)}")
    return table


def read_archive(archive: Path, ids: Mapping[str, int]) -> Iterator[tuple[int, str, bytes]]:
    """Stream images out of the archive, in its order, without unpacking it to disk.

    Args:
        ids: of the wanted images, by member name.

    Yields:
        id, where it came from (for messages), the encoded image.

    Raises:
        UserError: not a readable tar file, or (at its end) a wanted image was not in it.
    """
    missing = dict(ids)
    try:
        with tarfile.open(archive, "r:*") as tar:
            while member := tar.next():
                if member.isreg() and member.name in missing:
                    file = tar.extractfile(member)
                    assert file is not None
                    yield missing.pop(member.name), f"{archive}, {member.name}", file.read()
                tar.members.clear()  # type: ignore[attr-defined]  # else tarfile remembers all, however many
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{archive}: cannot be read as a tar file ({error}); delete it and run again") from None
    if missing:
        raise UserError(
            f"{archive}: holds {len(ids) - len(missing):,} of the {len(ids):,} images that the index names "
            f"({min(missing)} is missing)"
        )
