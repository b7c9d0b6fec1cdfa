"""Progress of long work: a bar on a terminal, otherwise a line every half minute. On stderr."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
INTERVAL = 30.0  # seconds between two lines


def progress(
    items: Iterable[Item],
    total: int | None,
    what: str,
    unit: str = "images",
    count: Callable[[Item], int] = lambda item: 1,
    before: int = 0,
) -> Iterator[Item]:
    """Yield ``items``, and show how many of ``total`` are done, the rate and the time left.

    Args:
        total: None if it is not known.
        what: a name of the work, in a few words.
        unit: what ``total`` counts.
        count: how many units an item is.
        before: units that an earlier run did.
    """
    show = _with_bar if sys.stderr.isatty() else _with_lines
    return show(items, total, what, unit, count, before)


def _with_bar(
    items: Iterable[Item],
    total: int | None,
    what: str,
    unit: str,
    count: Callable[[Item], int],
    before: int,
) -> Iterator[Item]:
    bar = tqdm(
        total=total,
        initial=before,
        desc=what,
        unit=f" {unit}",
        unit_scale=True,
        dynamic_ncols=True,
    )
    with bar:
        for item in items:
            yield item
            bar.update(count(item))


def _with_lines(
    items: Iterable[Item],
    total: int | None,
    what: str,
    unit: str,
    count: Callable[[Item], int],
    before: int,
) -> Iterator[Item]:
    done = before
    start = time.monotonic()
    shown = start
    for item in items:
        yield item
        done += count(item)
        now = time.monotonic()
        if now - shown < INTERVAL:
            continue
        shown = now
        line = tqdm.format_meter(
            done,
            total,  # type: ignore[arg-type]  # None is allowed, and means unknown
            now - start,
            ncols=0,
            prefix=what,
            unit=f" {unit}",
            unit_scale=True,
            initial=before,
        )
        print(line, file=sys.stderr, flush=True)
