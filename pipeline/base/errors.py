"""Errors and notes for people: one line that says what is wrong, where, and what to do."""

import errno
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

Value = TypeVar("Value")

FREE_SPACE = "free some space"
FREE_MEMORY = "free some memory"
GET_PERMISSION = "get permission to read and write there"
ADVICE = {  # by the number of a system error: what a person can do about it
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EROFS: GET_PERMISSION,
    errno.EACCES: GET_PERMISSION,
    errno.EPERM: GET_PERMISSION,
    errno.EIO: "save your data, the disk may be failing",
    errno.ENOMEM: FREE_MEMORY,
}
LISTED = 10  # names in a message


class UserError(Exception):
    """An error that the user can fix. Its text says what is wrong, where, and what to do.

    Unprintable characters are escaped: names from files are part of the text, and a terminal would
    obey some of them.
    """

    def __init__(self, text: str) -> None:
        printable = (c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
        super().__init__("".join(printable))


@contextmanager
def for_people() -> Iterator[None]:
    """Turn errors that are not bugs into one line on stderr and an exit code.

    A :class:`UserError` and a fault of the machine (disk, memory) exit with 1, Ctrl-C with 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        sys.exit(f"error: {error}")
    except (OSError, MemoryError, RuntimeError) as error:
        fault = _describe_fault(error)
        if fault:
            sys.exit(f"error: {fault}, then run it again: finished stages are kept")
        raise


def _describe_fault(error: Exception) -> str:
    """What is wrong with the machine, where, and what to do; empty for a bug."""
    # NumPy raises MemoryError; torch RuntimeError ("can't allocate memory", "CUDA out of memory").
    is_memory = "allocate memory" in str(error) or "out of memory" in str(error)
    if isinstance(error, MemoryError) or is_memory:
        return f"out of memory; {FREE_MEMORY}"
    if isinstance(error, OSError) and error.errno in ADVICE:
        place = error.filename or "reading or writing"
        return f"{place}: {error.strerror}; {ADVICE[error.errno]}"
    return ""


def print_note(line: str) -> None:
    """Print a line about something that is not an error, but perhaps unexpected."""
    print(f"note: {line}", flush=True)


def choose(choices: Mapping[str, Value], name: str, key: str) -> Value:
    """The element of ``choices`` with this name.

    Args:
        key: the params key that holds them, for the message.

    Raises:
        UserError: no element has this name.
    """
    if name not in choices:
        names = ", ".join(choices) or "nothing"
        raise UserError(f"params.yaml: {key} has no {name!r}; it has {names}")
    return choices[name]


def listed(names: Sequence[str]) -> str:
    """The first ten of ``names`` on one line, and how many more there are."""
    text = ", ".join(map(repr, names[:LISTED]))
    if len(names) > LISTED:
        text += f" and {len(names) - LISTED:,} more"
    return text
