"""Tar files of images, read as files that anybody may have made.

Every reader here makes one pass over the whole file first, in which nothing hostile fills memory,
disk or time, and damage is noticed to the last byte. Nothing is unpacked under a name on disk.
"""

import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import IO, Self

from pipeline.base.errors import UserError
from pipeline.base.progress import progress

LARGEST = 1 << 28  # bytes of an encoded image: far above any photograph
LARGEST_EXTENSION = 1 << 20  # bytes of a header's extension: names, times
HEADER = 512  # bytes of an entry's header
CHUNK = 1 << 20  # bytes read at a time
HEAD = 256  # bytes at the beginning of a file, by which it is known whether it is wanted
SPARE = 1 << 29  # bytes of disk to leave free when a compressed archive is unpacked
EXTENSIONS = b"xgXLK"  # types of entries that extend the next entry's header


class Limits:
    """Refuses an archive that cannot be one of photographs, before it fills memory, disk or time.

    Photographs are already compressed: an archive of them has hundreds of bytes an entry, and does
    not unpack to a hundred times its size.
    """

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._size = archive.stat().st_size
        self._names: set[str] = set()
        self._entries = 0
        self._total = 0  # bytes of all entries, unpacked

    def check(self, name: str, size: int, may_repeat: bool = False) -> None:
        """Count one entry of ``size`` bytes.

        Raises:
            UserError: its name points out of the archive or is not the first of its kind, or all
                entries together are far more than photographs.
        """
        self._entries += 1
        self._total += HEADER + size
        fault = ""
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            fault = "its name points out of the archive"
        elif name in self._names and not may_repeat:
            fault = "occurs twice"
        elif size < 0:
            fault = f"its size is given as {size:,} bytes"
        elif self._are_too_many():
            fault = (
                f"{self._entries:,} entries, {self._total:,} bytes so far, in an archive of only "
                f"{self._size:,} bytes: these are not photographs"
            )
        if fault:
            raise UserError(f"{self._archive}, {name!r}: {fault}")
        self._names.add(name)

    def check_content(self, name: str, size: int) -> None:
        """Before the content of an entry is read into memory.

        Raises:
            UserError: it is far larger than a photograph.
        """
        if size > LARGEST:
            raise UserError(
                f"{self._archive}, {name!r}: its size is given as {size:,} bytes, which no "
                "photograph has"
            )

    def _are_too_many(self) -> bool:
        most_entries = 10_000 + self._size / 100
        most_bytes = 2**30 + 100 * self._size
        return self._entries > most_entries or self._total > most_bytes


class _Header(tarfile.TarInfo):
    """A header whose size is checked first: tarfile reads as much of an extension as it claims."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        is_extension = header.type in EXTENSIONS
        if header.size < 0 or (is_extension and header.size > LARGEST_EXTENSION):
            raise tarfile.TarError(f"{header.name!r} claims {header.size:,} bytes")
        return header


def _open_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "r:*", tarinfo=_Header)


class _Reader:
    """One pass over a tar file, compressed or not. Every error of it is a UserError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = ""  # name of the last entry, for messages
        with self._errors():
            self._limits = Limits(path)
            self._tar = _open_tar(path)

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self._tar.close()

    @property
    def is_compressed(self) -> bool:
        return not isinstance(self._tar.fileobj, io.BufferedReader)

    def entries(self) -> Iterator[tarfile.TarInfo]:
        """All entries but folders, in the order of the file, to its last byte."""
        with self._errors():
            while (entry := self._tar.next()) is not None:
                self._tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all
                self._last = entry.name
                self._limits.check(entry.name, entry.size, may_repeat=entry.isdir())
                if not entry.isdir():
                    yield entry
            self._check_end()

    def _check_end(self) -> None:
        """Read what follows the last entry: zeros, and behind them the checksum of gzip."""
        assert self._tar.fileobj
        while chunk := self._tar.fileobj.read(CHUNK):
            self._limits.check("behind the last entry", len(chunk), may_repeat=True)
            if chunk.strip(b"\0"):
                raise tarfile.TarError("something else follows")

    def content(
        self, entry: tarfile.TarInfo, wanted: Callable[[str, bytes], bool] | None = None
    ) -> bytes | None:
        """The content of the entry that came last; None if it is not ``wanted``, see read_tar."""
        with self._errors():
            file = self._tar.extractfile(entry)
            assert file
            head = file.read(HEAD)
            if wanted and not wanted(entry.name, head):
                return None
            self._limits.check_content(entry.name, entry.size)
            return head + b"".join(iter(partial(file.read, CHUNK), b""))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # tarfile raises all kinds of errors, depending on the bytes
            if isinstance(error, tarfile.ReadError) and not self._last:
                reason = "it does not begin as one"
            else:
                reason = (str(error) or type(error).__name__).splitlines()[0]
            place = f" after {self._last!r}" if self._last else ""
            raise UserError(
                f"{self.path}: cannot be read as a tar file{place} ({reason}); get it again"
            ) from None


def _is_regular(entry: tarfile.TarInfo) -> bool:
    """Whether an entry is a plain file: not a link, a device, or a file with holes."""
    return entry.isreg() and not entry.issparse()


@dataclass(frozen=True)
class TarEntry:
    """An entry of a tar file; its content is None if it is not wanted or not a regular file."""

    name: str
    content: bytes | None
    is_regular: bool


def read_tar(archive: Path, wanted: Callable[[str, bytes], bool]) -> Iterator[TarEntry]:
    """All entries of a tar file but folders, in its order, to its last byte.

    Args:
        wanted: says by the name of an entry and its first 256 bytes whether its content is wanted.

    Raises:
        UserError: not a readable tar file, or an entry that :class:`Limits` refuses.
    """
    with _Reader(archive) as reader:
        for entry in reader.entries():
            is_regular = _is_regular(entry)
            content = reader.content(entry, wanted) if is_regular else None
            yield TarEntry(entry.name, content, is_regular)


def image_digests(archive: Path, members: Sequence[str]) -> list[str]:
    """SHA-256 of images of a tar file (hex digits), in the order of ``members``; one pass.

    Raises:
        UserError: as :func:`read_tar`; an image is missing or is not a regular file.
    """
    wanted = set(members)
    digests: dict[str, str] = {}
    entries = progress(
        read_tar(archive, lambda name, head: name in wanted),
        total=len(wanted),
        what=f"reading {archive.name}",
        count=lambda entry: entry.name in wanted,
    )
    for entry in entries:
        if entry.name not in wanted:
            continue
        if entry.content is None:
            raise UserError(_not_regular(archive, entry.name))
        digests[entry.name] = hashlib.sha256(entry.content).hexdigest()
    missing = sorted(wanted - digests.keys())
    if missing:
        raise UserError(
            f"{archive}: has {len(digests):,} of the {len(wanted):,} images of the index "
            f"({missing[0]} is missing); get it again"
        )
    return [digests[member] for member in members]


def _not_regular(archive: Path, member: str) -> str:
    return f"{archive}, {member!r}: is a link, a device or a sparse file, not an image"


@dataclass(frozen=True)
class _Place:
    """Where the content of a member is in an open file, in bytes."""

    offset: int
    size: int


class Archive:
    """A tar file whose members are read at random, by any number of threads.

    Opening it makes one checked pass over the file. A plain tar file is then read where it is; of a
    compressed one that pass copies the members to a temporary file without a name, which vanishes
    with the process.
    """

    def __init__(self, path: Path, members: Collection[str] | None = None) -> None:
        """Open ``path``.

        Args:
            members: those that will be read, so that no others of a compressed archive take space
                on disk; None: all.

        Raises:
            UserError: not a readable tar file, an entry that :class:`Limits` refuses, or no space
                for the temporary file.
        """
        self.path = path
        self._wanted = None if members is None else frozenset(members)
        self._places: dict[str, _Place | None] = {}  # None: not a regular file
        self._lock = Lock()
        with _Reader(path) as reader:
            self._file = self._open_file(reader)
            try:
                for entry in reader.entries():
                    if self._wanted is None or entry.name in self._wanted:
                        self._places[entry.name] = self._place(reader, entry)
            except BaseException:
                self._file.close()
                raise

    def _open_file(self, reader: _Reader) -> IO[bytes]:
        if reader.is_compressed:
            return tempfile.TemporaryFile()
        return self.path.open("rb")

    def _place(self, reader: _Reader, entry: tarfile.TarInfo) -> _Place | None:
        if not _is_regular(entry):
            return None
        if not reader.is_compressed:
            return _Place(entry.offset_data, entry.size)
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if free < SPARE + entry.size:
            raise UserError(
                f"{self.path}: unpacking it leaves only {free:,} bytes free in {folder}; free "
                "some space, or set TMPDIR to another folder"
            )
        content = reader.content(entry)
        assert content is not None
        place = _Place(self._file.tell(), entry.size)
        self._file.write(content)
        return place

    def read(self, member: str) -> bytes:
        """The content of a member.

        Raises:
            UserError: it is missing, is not a regular file, or the archive changed meanwhile.
        """
        if member not in self._places:
            raise UserError(f"{self.path}: has no {member!r}, which the index names; get it again")
        place = self._places[member]
        if place is None:
            raise UserError(_not_regular(self.path, member))
        with self._lock:
            self._file.seek(place.offset)
            content = self._file.read(place.size)
        if len(content) != place.size:
            raise UserError(f"{self.path}, {member!r}: was cut short meanwhile; run it again")
        return content

    def close(self) -> None:
        """Close the file; a temporary one is gone then."""
        self._file.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
