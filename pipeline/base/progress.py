"""Long work is seen: a bar on a terminal, else a plain line every half minute. Nothing of it is in any out."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
INTERVAL = 30.0  # seconds between plain lines


def progress(
    items: Iterable[Item],
    total: int,
    what: str,
    unit: str = "images",
    count: Callable[[Item], int] = lambda item: 1,
    before: int = 0,
) -> Iterator[Item]:
    """Pass ``items`` on, showing how many of ``total`` are done, the rate and the time left, on stderr.

    Args:
        what: is done, in a few words.
        unit: what ``total`` counts.
        count: how many of them an item is.
        before: how many an earlier run did.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, initial=before, desc=what, unit=f" {unit}", unit_scale=True, dynamic_ncols=True) as bar:
            for item in items:
                yield item
                bar.update(count(item))
        return
    done, start = before, time.monotonic()
    shown = start
    for item in items:
        yield item
        done += count(item)
        now = time.monotonic()
        if now - shown >= INTERVAL:
            shown = now
            meter = tqdm.format_meter(
                done, total, now - start, ncols=0, prefix=what, unit=f" {unit}", unit_scale=True, initial=before
            )
            print(meter, file=sys.stderr, flush=True)
