"""Errors for people: one line that says what is wrong, where, and what to do."""

import errno
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

Value = TypeVar("Value")


SPACE, RIGHTS, MEMORY = "free some space", "let yourself read and write there", "free some memory"
FAULTS = {  # of the machine, not of the program: what a person does about them
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EROFS: RIGHTS,
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.EIO: "save what matters, the disk may be failing",
    errno.ENOMEM: MEMORY,
}


class UserError(Exception):
    """Something the user can mend. Its text says what is wrong, where, and what to do.

    Names from files stand in it, so what is no printable character (a terminal would obey some) is escaped.
    """

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


@contextmanager
def for_people() -> Iterator[None]:
    """A :class:`UserError` or a fault of the machine becomes one line on stderr and exit code 1, Ctrl-C code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        sys.exit(f"error: {error}")
    except (OSError, MemoryError, RuntimeError) as error:
        if fault := _fault(error):
            sys.exit(f"error: {fault}, then run it again: what is finished stays")
        raise


def _fault(error: Exception) -> str:
    """What is wrong with the machine, where, and what to do; empty for an error of the program."""
    # NumPy raises a MemoryError, torch a RuntimeError: "can't allocate memory", or "CUDA out of memory".
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error):
        return f"out of memory; {MEMORY}"
    if not isinstance(error, OSError) or error.errno not in FAULTS:
        return ""
    return f"{error.filename or 'writing or reading'}: {error.strerror}; {FAULTS[error.errno]}"


def choose(choices: Mapping[str, Value], name: str, key: str) -> Value:
    """The one of ``choices`` that is called ``name``.

    Args:
        key: the params key that holds them, for the message.

    Raises:
        UserError: there is none of that name.
    """
    if name not in choices:
        raise UserError(f"params.yaml: {key} has no {name!r}; it has {', '.join(choices) or 'nothing'}")
    return choices[name]


def listed(names: Sequence[str]) -> str:
    """The first ten of ``names`` on one line, and how many more there are."""
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(map(repr, names[:10])) + more
