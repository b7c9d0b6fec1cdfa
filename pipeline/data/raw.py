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
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Self

import pandas as pd

from pipeline.base.errors import UserError, listed
from pipeline.base.files import atomic, write_csv

SPLITS = ("train", "val", "test")
SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of files of images
LARGEST = 1 << 28  # bytes of an encoded image: far above any photograph
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
            raise UserError(f"{path}: {column} {str(index[column][twice].iloc[0])!r} stands twice")
    splits = set(index["split"])
    if splits != set(SPLITS):
        raise UserError(f"{path}: the splits are {listed(sorted(splits))}; they must be {', '.join(SPLITS)}")
    if not index["label"].between(0, classes - 1).all() or (index["id"] < 0).any():
        raise UserError(f"{path}: labels must be 0 to {classes - 1}, as in classes.csv, and ids not negative")
    return index


def _read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=dict(columns), keep_default_na=False)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if list(table) != list(columns):
        raise UserError(f"{path}: has columns {listed([*map(str, table)])}; they must be {', '.join(columns)}")
    return table


class Limits:
    """Holds the entries of an archive against what photographs are, so that no crafted one fills memory, disk or time.

    Photographs are compressed already: an archive of them has hundreds of bytes an entry, and does not unpack to a
    hundred times its size.
    """

    def __init__(self, archive: Path) -> None:
        self._archive, self._size = archive, archive.stat().st_size
        self._names: set[str] = set()
        self._entries = self._total = 0

    def check(self, name: str, size: int, may_repeat: bool = False) -> None:
        """Count one entry of ``size`` bytes.

        Raises:
            UserError: its name leads out of the archive or has come before, it is far larger than a photograph, or all
                entries together are far more than photographs.
        """
        self._entries += 1
        self._total += 512 + size
        fault = ""
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            fault = "its name leads out of the archive"
        elif name in self._names and not may_repeat:
            fault = "stands twice"
        elif not 0 <= size <= LARGEST:
            fault = f"its size is given as {size:,} bytes, which no photograph has"
        elif self._entries > 10_000 + self._size / 100 or self._total > 2**30 + 100 * self._size:
            fault = f"{self._entries:,} entries, {self._total:,} bytes so far, in only {self._size:,}: no photographs"
        if fault:
            raise UserError(f"{self._archive}, {name!r}: {fault}")
        self._names.add(name)


class _Header(tarfile.TarInfo):
    """A header that is believed within limits only: of an extended one (x, g, X, L, K) tarfile reads all it claims."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if not 0 <= header.size <= (1 << 20 if header.type in b"xgXLK" else LARGEST):
            raise tarfile.TarError(f"{header.name!r} claims {header.size:,} bytes")
        return header


def read_tar(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | None]]:
    """All entries of a tar file but folders, in its order, to its last byte; nothing is unpacked to disk.

    Yields:
        name; content, or None where it is not wanted, or is no plain file but a link, a device or full of holes.

    Raises:
        UserError: not a readable tar file, or an entry as :class:`Limits` refuses it.
    """
    last = ""
    try:
        limits = Limits(archive)
        with tarfile.open(archive, "r:*", tarinfo=_Header) as tar:
            while member := tar.next():
                tar.members.clear()  # type: ignore[attr-defined]  # else tarfile remembers all, however many
                last = member.name
                limits.check(last, member.size, member.isdir())
                if member.isdir():
                    continue
                file = tar.extractfile(member) if member.isreg() and not member.issparse() and wanted(last) else None
                yield last, b"".join(iter(partial(file.read, 1 << 20), b"")) if file else None
            while chunk := tar.fileobj.read(1 << 20):  # zeros; gzip's checksum comes behind them
                limits.check("behind the last entry", len(chunk), may_repeat=True)
                if chunk.strip(b"\0"):
                    raise tarfile.TarError("something else follows")
    except UserError:
        raise
    except Exception as error:  # tarfile raises whatever the bytes lead it into
        unknown = isinstance(error, tarfile.ReadError) and not last
        reason = "it does not begin as one" if unknown else (str(error) or type(error).__name__).splitlines()[0]
        where = f" after {last!r}" if last else ""
        raise UserError(f"{archive}: cannot be read as a tar file{where} ({reason}); get it again") from None


def read_archive(archive: Path, ids: Mapping[str, int]) -> Iterator[tuple[int, str, bytes]]:
    """Stream images out of the archive, in its order, without unpacking it to disk.

    Args:
        ids: of the wanted images, by member name.

    Yields:
        id, where it came from (for messages), the encoded image.

    Raises:
        UserError: as :func:`read_tar`, or (at its end) a wanted image was not in it.
    """
    missing = dict(ids)
    for name, content in read_tar(archive, missing.__contains__):
        if name in missing:
            if content is None:
                raise UserError(f"{archive}, {name!r}: a link, a device or full of holes in place of an image")
            yield missing.pop(name), f"{archive}, {name}", content
    if missing:
        raise UserError(
            f"{archive}: holds {len(ids) - len(missing):,} of the {len(ids):,} images that the index names "
            f"({min(missing)} is missing)"
        )
