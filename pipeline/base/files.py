"""Files that appear whole or not at all."""

import errno
import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import pandas as pd

published: list[Path] = []  # files that this process made, for the record of a stage's run


@contextmanager
def atomic(*paths: str | Path) -> Iterator[list[Path]]:
    """Yield one temporary path beside each of ``paths``; rename all on success, delete all on any failure.

    Each rename is atomic (POSIX), and none happens before every file is complete and on disk, so a reader, a second
    run at the same time, or a run after a crash, never meets half a file.
    """
    finals = [Path(path) for path in paths]
    temporaries = [_temporary(path) for path in finals]
    try:
        yield temporaries
        publish(dict(zip(temporaries, finals, strict=True)))
    except OSError as error:  # a full disk comes without a name, and a temporary one says little
        names = {str(temporary): str(final) for temporary, final in zip(temporaries, finals, strict=True)}
        written = [name for temporary, name in names.items() if Path(temporary).exists()]
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = (written or list(names.values()))[-1]
        error.filename = names.get(str(error.filename), error.filename)
        raise
    finally:
        for temporary in temporaries:
            with suppress(OSError):  # what cannot be deleted now, the next one deletes
                temporary.unlink()


def publish(files: Mapping[Path, Path]) -> None:
    """Give finished files (keys) their names (values), once all of them are on disk."""
    for temporary in files:
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    for temporary, final in files.items():
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(final)
        published.append(final)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, for a file that is deleted afterwards if it was made."""
    temporary = _temporary(path)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def alone(path: Path, what: str, note: Callable[[str], None] = print) -> Iterator[None]:
    """Keep other processes from the file ``path`` that grows (the system frees the lock of one that is killed).

    Args:
        what: it is to be, for ``note``, which takes a line where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(f"{what}: waiting for another process that makes it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that is this process's own; what processes that were killed left there is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        process = file.name.split(".")[-2]
        if process.isdecimal() and not _is_running(int(process)):
            file.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` atomically, UTF-8, with ``\\n`` line ends on every platform."""
    with atomic(path) as (temporary,):
        temporary.write_bytes(text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON in the order given; NaN is refused (``ValueError``), plots cannot read it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def hex_digest(path: str | Path, algorithm: str) -> str:
    """Hex digest of a file's bytes, by an algorithm that :mod:`hashlib` knows."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def write_csv(path: Path, table: "pd.DataFrame", float_format: str | None = "%.6f") -> None:
    """Write ``table`` as CSV, floats with six decimals, the same bytes on every platform. Not atomic by itself."""
    table.to_csv(path, index=False, lineterminator="\n", float_format=float_format, encoding="utf-8")
