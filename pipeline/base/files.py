"""Files that appear whole or not at all, and locks between processes."""

import errno
import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def atomic(*paths: str | Path) -> Iterator[list[Path]]:
    """Yield a temporary path beside each of ``paths``, and rename all of them on success.

    Each rename is atomic (POSIX), and none happens before every file is complete and on disk. So a
    reader, a second run at the same time, or a run after a crash never sees half a file. If the
    files cannot be completed, nothing is renamed. Temporary files are deleted in every case.

    Raises:
        OSError: a file cannot be written; its ``filename`` is that of the final path.
    """
    finals = [Path(path) for path in paths]
    temporaries = [_temporary_path(path) for path in finals]
    try:
        yield temporaries
        for temporary in temporaries:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        for temporary, final in zip(temporaries, finals, strict=True):
            temporary.replace(final)
    except OSError as error:
        _name_final_path(error, temporaries, finals)
        raise
    finally:
        for temporary in temporaries:
            _delete(temporary)


def _name_final_path(error: OSError, temporaries: Sequence[Path], finals: Sequence[Path]) -> None:
    """Let ``error`` name the file that was meant: a full disk names none, others a temporary."""
    names = {str(old): str(new) for old, new in zip(temporaries, finals, strict=True)}
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
        begun = [final for temporary, final in names.items() if Path(temporary).exists()]
        error.filename = (begun or list(names.values()))[-1]
    error.filename = names.get(str(error.filename), error.filename)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; a file made there is deleted at the end."""
    temporary = _temporary_path(path)
    try:
        yield temporary
    finally:
        _delete(temporary)


def _temporary_path(path: Path) -> Path:
    """A path beside ``path`` that belongs to this process, in a folder that is made if needed.

    Temporary files of processes that were killed are deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        process_id = file.name.split(".")[-2]
        if process_id.isdecimal() and not is_running(process_id):
            file.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _delete(path: Path) -> None:
    with suppress(OSError):  # if it cannot be deleted now, _temporary_path tries again
        path.unlink()


def is_running(process_id: str) -> bool:
    """Whether a process of this machine has this id (decimal digits)."""
    try:
        os.kill(int(process_id), 0)  # sends nothing
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True


@contextmanager
def file_lock(path: Path, what: str, note: Callable[[str], None] = print) -> Iterator[None]:
    """Keep other processes from writing ``path`` at the same time; wait until they have finished.

    The lock is a file beside it. The system releases the lock of a process that is killed.

    Args:
        what: a name of the file for people.
        note: is called with one line if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(f"{what}: waiting for another process that writes it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` atomically as UTF-8, with the same line ends (``\\n``) on every platform."""
    with atomic(path) as (temporary,):
        temporary.write_bytes(text.encode())


def hex_digest(path: str | Path, algorithm: str) -> str:
    """Hex digest of a file's bytes, by an algorithm that :mod:`hashlib` knows."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def clone_of(folder: Path) -> Path:
    """The project of which ``folder`` is, perhaps, a copy that DVC made for an experiment.

    `dvc exp run --temp` and `--queue` copy the project into its .dvc/tmp/exps.
    """
    inside = [parent for parent in folder.parents if parent.name == ".dvc"]
    return inside[-1].parent if inside else folder
