"""The source indexed: an archive with tables, as drawn images or a person's own."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from pipeline.base.errors import UserError
from pipeline.data.archive import image_digests
from pipeline.data.raw import ARCHIVE, INDEX, RawData, read_classes, read_index
from pipeline.params import Images


def read(images: Images, scratch: Path, note: Callable[[str], None]) -> RawData:
    """The archive, its index and the names of the classes.

    Args:
        images: ``path`` is a folder in the form of raw data, whose index.csv may lack the column
            sha256; nothing else is used.
        scratch, note: not used.

    Raises:
        UserError: a file is missing, a table is not in its form, or the archive cannot be read,
            lacks images or has others than the index says.
    """
    folder = Path(images.path)
    archive = folder / ARCHIVE
    if not archive.is_file():
        raise UserError(
            f"{archive}: no such file; images.path must have images.tar, index.csv and classes.csv"
        )
    classes = read_classes(folder)
    index = read_index(folder, sha256_optional=True)
    digests = image_digests(archive, index["member"].tolist())
    if "sha256" in index:
        _check_digests(folder / INDEX, index, digests)
    return RawData(archive, index.assign(sha256=digests), classes)


def _check_digests(path: Path, index: pd.DataFrame, digests: list[str]) -> None:
    wrong = index["member"][index["sha256"] != digests]
    if len(wrong):
        raise UserError(
            f"{path}: sha256 of {wrong.iloc[0]!r} is not that of the image in {ARCHIVE}; "
            "correct it, or leave the column out"
        )
