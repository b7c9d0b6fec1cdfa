"""All files of a folder, a zip or a tar file, as people really have them.

Links are followed. Hidden files and what macOS and Windows leave beside photographs are skipped.
Names come as text with ``/`` between folders, in Unicode's composed form (NFC).
"""

import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.base.errors import UserError, listed
from pipeline.data.archive import HEAD, Limits, read_tar

Note = Callable[[str], None]
Wanted = Callable[[str, bytes], bool]

# How the names of image files end; a file that ends so is missed if it is no image.
SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
JUNK = ("thumbs.db", "desktop.ini", "__macosx")
LINK_IN_ARCHIVE = "a link in an archive: unpack it and give the folder"
NOT_REGULAR = "not a regular file"
ROOT = PurePosixPath()
NOWHERE: frozenset[tuple[int, int]] = frozenset()
OTHER_ARCHIVES = {  # by how the file begins
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
}
IS_ENCRYPTED = 1  # bits of a zip entry's flags
IS_UTF8 = 0x800


@dataclass(frozen=True)
class File:
    """A file, or a folder, whose name ends in ``/``.

    Attributes:
        name: path in the folder or archive.
        content: None if it is not wanted or cannot be read.
        fault: why it cannot be read, in words; else empty.
    """

    name: str
    content: bytes | None = None
    fault: str = ""


class LeftOutError(UserError):
    """A source would leave out too much; all of it is in ``left_out``: columns file, reason."""

    def __init__(self, text: str, left_out: pd.DataFrame) -> None:
        super().__init__(text)
        self.left_out = left_out


def read_files(path: Path, wanted: Wanted, encoding: str | None, note: Note) -> Iterator[File]:
    """All files and folders below ``path``, of which hidden ones are skipped.

    Args:
        path: a folder, a zip file or a tar file, compressed or not.
        wanted: says by the name and the first 256 bytes whether the content is wanted.
        encoding: of names in a zip file that are not marked as UTF-8; None to guess.
        note: takes one line about anything unexpected.

    Raises:
        UserError: no such file, an archive that cannot be read, or one that is crafted to harm.
    """
    if path.is_dir():
        files = _files_of_folder(path, wanted)
    elif not path.is_file():
        raise UserError(f"images.path = {path}: no such folder, zip or tar file")
    else:
        with path.open("rb") as archive:
            beginning = archive.read(8)
        for mark, kind in OTHER_ARCHIVES.items():
            if beginning.startswith(mark):
                raise UserError(
                    f"images.path = {path}: {kind}, which cannot be read here; unpack it, and give "
                    "the folder"
                )
        if beginning.startswith(b"PK"):
            files = _files_of_zip(path, wanted, encoding, note)
        else:
            files = _files_of_tar(path, wanted)
    others: list[str] = []  # names that are not UTF-8
    for file in files:
        name = as_text(file.name)
        if name != file.name:
            others.append(name)
        name = composed(name)
        if not PurePosixPath(name).parts:
            yield File("(no name)", fault="has no name")
        elif not is_hidden(name):
            yield File(name, file.content, file.fault)
    if others:
        note(f"{path}: names that are not UTF-8 are read as Latin-1: {listed(others)}")


def images_below(folder: Path) -> Iterator[Path]:
    """The images of a folder, by their names; no hidden ones, and none that cannot be opened."""
    for place, file in walk(folder):
        is_image = place.suffix.lower() in SUFFIXES and not is_hidden(file.name)
        if is_image and not file.fault:
            yield place


def as_text(name: str) -> str:
    """A name of a file; one that is not UTF-8 is read as Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name


def composed(text: str) -> str:
    """``text`` in Unicode's composed form (NFC): macOS takes names apart."""
    return unicodedata.normalize("NFC", text)


def is_hidden(name: str) -> bool:
    """Whether a file is hidden, or one that a system leaves beside photographs, by its path."""
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part.casefold() in JUNK for part in parts)


# Folders.


def walk(
    folder: Path, name: PurePosixPath = ROOT, around: frozenset[tuple[int, int]] = NOWHERE
) -> Iterator[tuple[Path, File]]:
    """The files and folders below ``folder``, in the order of their names; links are followed.

    Args:
        name: of ``folder`` in the data.
        around: device and inode of the folders that it is in, so that a circle of links ends.

    Yields:
        The place; name and fault, without the content.
    """
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield folder, File(f"{name}/", fault=_reason(error))
        return
    identity = (status.st_dev, status.st_ino)
    if identity in around:
        yield folder, File(str(name), fault="a link to a folder that it is in")
        return
    if name.parts:
        yield folder, File(f"{name}/")
    for entry in entries:
        inside = name / entry.name
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            yield entry, File(str(inside), fault=_reason(error))
            continue
        if stat.S_ISDIR(mode):
            yield from walk(entry, inside, around | {identity})
        else:
            yield entry, File(str(inside), fault="" if stat.S_ISREG(mode) else NOT_REGULAR)


def _files_of_folder(path: Path, wanted: Wanted) -> Iterator[File]:
    for place, file in walk(path):
        is_readable = not file.fault and not file.name.endswith("/")
        yield _read(place, file.name, wanted) if is_readable else file


def _read(path: Path, name: str, wanted: Wanted) -> File:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            return File(name, head + file.read() if wanted(name, head) else None)
    except OSError as error:
        return File(name, fault=_reason(error))


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "a link to nothing"
    return (error.strerror or type(error).__name__).lower()


# Archives.


def _files_of_tar(path: Path, wanted: Wanted) -> Iterator[File]:
    for entry in read_tar(path, wanted):
        fault = "" if entry.is_regular else LINK_IN_ARCHIVE
        yield File(entry.name, entry.content, fault)


def _files_of_zip(path: Path, wanted: Wanted, encoding: str | None, note: Note) -> Iterator[File]:
    limits = Limits(path)
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises all kinds of errors, depending on the bytes
        raise UserError(
            f"images.path = {path}: cannot be read as a zip file ({error}); get it again"
        ) from None
    with archive:
        entries = archive.infolist()
        if any(entry.flag_bits & IS_ENCRYPTED for entry in entries):
            raise UserError(
                f"images.path = {path}: is encrypted; unpack it with its password, and give the "
                "folder"
            )
        names = _names_in_zip(entries, path, encoding, note)
        for name, entry in zip(names, entries, strict=True):
            limits.check(name, entry.file_size, may_repeat=name.endswith("/"))
        for name, entry in sorted(zip(names, entries, strict=True), key=lambda pair: pair[0]):
            yield _read_entry(archive, entry, name, wanted, limits)


def _names_in_zip(
    entries: list[zipfile.ZipInfo], path: Path, encoding: str | None, note: Note
) -> list[str]:
    """Names of the entries as text, with ``/``, whatever wrote them.

    Programs on Windows write ``\\``, and names that are neither UTF-8 nor marked: zipfile reads
    those as code page 437 (APPNOTE.TXT, appendix D).
    """
    names = []
    guessed = []
    for entry in entries:
        name = entry.filename
        raw = b"" if entry.flag_bits & IS_UTF8 else name.encode("cp437", "replace")
        if not raw.isascii():
            try:
                name = raw.decode(encoding or "utf-8")
            except UnicodeDecodeError:
                guessed.append(name)
        names.append(name.replace("\\", "/"))
    if guessed:
        now = f"; {encoding} does not fit them" if encoding else ""
        note(
            f"{path}: names that are not marked as UTF-8 are read as code page 437: "
            f"{listed(guessed)}{now}; if they look wrong, set images.encoding: cp932 (Japanese), "
            "gbk (Chinese), cp949 (Korean), cp866 (Russian), cp850 (Western Europe)"
        )
    return names


def _read_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, wanted: Wanted, limits: Limits
) -> File:
    if name.endswith("/"):
        return File(name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return File(name, fault=LINK_IN_ARCHIVE if kind == stat.S_IFLNK else NOT_REGULAR)
    try:
        with archive.open(entry) as file:
            head = file.read(HEAD)
            if not wanted(name, head):
                return File(name)
            limits.check_content(name, entry.file_size)
            return File(name, head + file.read())
    except UserError:
        raise
    except NotImplementedError as error:
        reason = re.sub(r"\s+", " ", str(error))
        return File(name, fault=f"cannot be unpacked here ({reason}): unpack the archive yourself")
    except Exception as error:  # as above
        return File(name, fault=f"damaged in the archive ({' '.join(str(error).split())})")
