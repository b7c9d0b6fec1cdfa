"""Several processes that work as one, each on its share of the images (``torch.distributed``); the first one writes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, repeat
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.launch import OTHER, RANK, SIZE

Value = TypeVar("Value")
TIMEOUT = timedelta(minutes=10)  # for a process to come, or to do its share


def join(device: torch.device) -> None:
    """Meet the other processes, if there are any.

    Raises:
        UserError: they do not come.
    """
    if SIZE > 1 and not dist.is_initialized():
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"runtime.launch: the {SIZE} processes did not meet: {error}".splitlines()[0]) from None


def agreed(value: Value) -> Value:
    """What the first process says."""
    values = [value]
    if SIZE > 1:
        with _together():
            dist.broadcast_object_list(values, src=0)
    return values[0]


def in_turn(own: Iterable[Value], total: int) -> Iterator[Value]:
    """All ``total`` parts in order, on the first process (others compute theirs, and are given none).

    Args:
        own: each ``SIZE``-th of them, from ``RANK`` on.
    """
    if SIZE == 1:
        yield from own
        return
    parts = chain(own, repeat(None))
    for start in range(0, total, SIZE):
        found: list[Value | None] = [None] * SIZE
        part = next(parts)
        with _together():
            dist.gather_object(part, None if RANK else found)
        yield from [] if RANK else found[: total - start]  # type: ignore[misc]


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over the processes."""
    if SIZE > 1:
        with _together():
            for tensor in tensors:
                dist.all_reduce(tensor)


@contextmanager
def _together() -> Iterator[None]:
    """A process that waits for another in vain says so."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(f"runtime.launch: {OTHER} ({' '.join(str(error).split())})") from None
