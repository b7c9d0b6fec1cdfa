"""Work on several threads, with the results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_AHEAD = 4  # for each thread; bounds the memory


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """``map`` on ``workers`` threads; results come in the order of the items.

    Threads help because Pillow decodes and resizes without Python's global lock. Only a few items
    are read ahead, so memory stays bounded.
    """
    with ThreadPoolExecutor(workers) as pool:
        futures: deque[Future[Result]] = deque()
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) > ITEMS_AHEAD * workers:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def cpu_workers(setting: int | str) -> int:
    """Number of threads for ``runtime.workers``: a number, or ``auto`` (one per usable core)."""
    if isinstance(setting, int):
        return setting
    if hasattr(os, "sched_getaffinity"):  # Linux; leaves out cores that this process may not use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
