"""A cache on disk for arrays that can be computed again: decoded pixels, outputs of frozen layers.

An entry is one file, `FOLDER/KIND/DIGEST`: a line of JSON (dtype, shape, what the entry is of, and
the SHA-256 of all that), then the array's bytes. DIGEST is a SHA-256 of the key, and the key names
all that determines the bytes. An entry appears whole or not at all and is verified when opened.

The cache changes no result and fails no run: where it is off, full, damaged, deleted meanwhile or
cannot be written, the caller computes what it would have read.
"""

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.files import is_running

GIGABYTE = 10**9
SPARE = GIGABYTE  # bytes to leave on the disk, for what must be written
UNFINISHED = ".part"


@dataclass(frozen=True)
class Entry:
    """An array in the cache, verified.

    Attributes:
        note: what the caller stored beside the array (JSON).
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    note: Any = None

    def array(self) -> np.ndarray:
        """The array, read-only, mapped from the file.

        Raises:
            OSError: the file was deleted meanwhile.
        """
        return np.memmap(self.path, self.dtype, "r", self.start, self.shape)


@dataclass
class Cache:
    """The entries below ``folder``, at most ``limit`` bytes of them (0: the cache is off).

    To make room, entries go that were not used for longest; but none that this process used, so
    that a run that needs more than the limit keeps what fits instead of replacing all in turn.
    """

    folder: Path
    limit: int
    _used: set[Path] = field(default_factory=set)
    _notes: set[str] = field(default_factory=set)

    def get(self, kind: str, key: Mapping[str, Any]) -> Entry | None:
        """The entry of a key; None if there is none, or a damaged one, which is deleted."""
        if not self.limit:
            return None
        path = self._path(kind, key)
        try:
            entry = _read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._say(f"{self.folder}: {error.strerror}; computing what it holds, which is slower")
            return None
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            self._say(f"{path}: damaged ({error}); what it held is computed again")
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # a disk may be read-only
            os.utime(path)
        self._used.add(path)
        return entry

    def put(
        self, kind: str, key: Mapping[str, Any], array: np.ndarray, note: Any = None
    ) -> Entry | None:
        """Store ``array`` [n, ...] and ``note`` (JSON) if there is room; None if there is not."""
        if not self.limit:
            return None
        path = self._path(kind, key)
        temporary = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
        content = np.ascontiguousarray(array)
        header = {"dtype": content.dtype.str, "shape": content.shape, "note": note, "key": key}
        line = json.dumps({"sha256": _digest(header, content)} | header).encode() + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._make_room(len(line) + content.nbytes):
                return None
            with temporary.open("wb") as file:
                file.write(line)
                file.write(content.data)
            temporary.replace(path)
        except OSError as error:
            self._say(f"{self.folder}: {error.strerror}; going on without storing, which is slower")
            return None
        finally:
            with suppress(OSError):
                temporary.unlink()
        self._used.add(path)
        return Entry(path, content.dtype, content.shape, len(line), note)

    def files(self) -> dict[Path, os.stat_result]:
        """Every entry with its size and the time of its last use, least recently used first.

        What killed processes left unfinished is deleted.
        """
        found = {}
        for path in self.folder.glob("*/*"):
            with suppress(FileNotFoundError):  # another process deleted it
                if path.suffix != UNFINISHED:
                    found[path] = path.stat()
                elif not is_running(path.name.split(".")[-2]):
                    path.unlink()
        return dict(sorted(found.items(), key=lambda item: item[1].st_mtime_ns))

    def _path(self, kind: str, key: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / kind / digest

    def _make_room(self, size: int) -> bool:
        """Delete entries until ``size`` bytes more fit; says whether they do."""
        files = self.files()
        excess = sum(stat.st_size for stat in files.values()) + size - self.limit
        unused = [path for path in files if path not in self._used]
        if excess > sum(files[path].st_size for path in unused):
            self._say(
                f"{self.folder}: runtime.cache = {self.limit / GIGABYTE:g} GB is too little for "
                "this run; what does not fit is computed each time it is needed"
            )
            return False
        for path in unused:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= files[path].st_size
        if shutil.disk_usage(self.folder).free < size + SPARE:
            self._say(f"{self.folder}: the disk is nearly full; not storing more, which is slower")
            return False
        return True

    def _say(self, text: str) -> None:
        """Print a note, once."""
        if text not in self._notes:
            self._notes.add(text)
            print(f"note: {text}", file=sys.stderr, flush=True)


def source_digest(*paths: str) -> str:
    """SHA-256 of this project's code at ``paths`` (files, or folders of them), for a key."""
    project = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in paths:
        place = project / path
        for file in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The first line of an entry's file, and where its array starts, in bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an entry.
    """
    with path.open("rb") as file:
        line = file.readline()
    try:
        header = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("not an entry")
    return header, len(line)


def _read(path: Path) -> Entry:
    """An entry that holds what was written.

    Raises:
        OSError: no such file.
        ArithmeticError, LookupError, TypeError, ValueError: it is damaged.
    """
    header, start = read_header(path)
    expected = header.pop("sha256")
    dtype = np.dtype(header["dtype"])
    entry = Entry(path, dtype, tuple(header["shape"]), start, header["note"])
    if path.stat().st_size != start + dtype.itemsize * math.prod(entry.shape):
        raise ValueError("another length")
    if _digest(header, entry.array()) != expected:
        raise ValueError("other bytes than were written")
    return entry


def _digest(header: Mapping[str, Any], array: np.ndarray) -> str:
    digest = hashlib.sha256(json.dumps(header).encode())
    digest.update(array.data)
    return digest.hexdigest()
