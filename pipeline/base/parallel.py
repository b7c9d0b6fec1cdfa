"""Work on several threads, with the results in order."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
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
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux; leaves out cores that this process may not use
        cores = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota(
    membership: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/sys/fs/cgroup")
) -> float:
    """How many CPUs' time this process may use, as ``docker run --cpus`` says; inf for no limit.

    That is the smallest quota of the process's control group and of those around it. In a container
    the group may have another name than here (it is mounted as the root), so a folder that is not
    there is no fault.

    Args:
        membership: the groups of the process, a line each: number, controllers, path.
        mounts: where the system shows the groups: version 2 of them, or a folder a controller.
    """
    quotas = [math.inf]
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath(path.lstrip("/"))
        for folder in (group, *group.parents):
            if not controllers:  # version 2
                quotas.append(_cpus(_read(mounts / folder / "cpu.max")))
            elif "cpu" in controllers.split(","):  # version 1
                for mount in (controllers, "cpu"):
                    quota = _read(mounts / mount / folder / "cpu.cfs_quota_us")
                    period = _read(mounts / mount / folder / "cpu.cfs_period_us")
                    quotas.append(_cpus(f"{quota} {period}"))
    return min(quotas)


def _read(path: Path) -> str:
    """A file of the system; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _cpus(text: str) -> float:
    """CPUs by a quota and its period in microseconds; inf where there is no limit (max, or -1)."""
    words = text.split()
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
        return int(words[0]) / int(words[1])
    return math.inf
