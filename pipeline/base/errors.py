"""Errors for people: one line that says what is wrong, where, and what to do."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

Value = TypeVar("Value")


class UserError(Exception):
    """Something the user can mend. Its text says what is wrong, where, and what to do.

    Names from files stand in it, so what is no printable character (a terminal would obey some) is escaped.
    """

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


@contextmanager
def for_people() -> Iterator[None]:
    """A :class:`UserError` becomes one line on stderr and exit code 1, Ctrl-C exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        sys.exit(f"error: {error}")


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
