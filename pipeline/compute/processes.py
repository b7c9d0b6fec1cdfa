"""Several processes that share a training or an evaluation (``torch.distributed``).

A launcher such as torchrun starts them. Each computes its share of the images; the first one
(``RANK`` 0) writes. With one process every function here returns at once.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, repeat
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.launch import OTHER, RANK, SIZE, is_first

Value = TypeVar("Value")
TIMEOUT = timedelta(minutes=10)  # for a process to come, or to do its share


def is_shared() -> bool:
    """Whether there are several processes."""
    return SIZE > 1


def join(device: torch.device) -> None:
    """Meet the other processes, if there are any.

    Raises:
        UserError: they do not come.
    """
    if not is_shared() or torch.distributed.is_initialized():
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        torch.distributed.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"runtime.launch: the {SIZE} processes did not meet: {reason}") from None


def share_of(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """This process's share of a batch, and its weight in the batch's mean, 0 to 1.

    A process for which nothing is left computes the first row too, with weight 0, so that all
    processes take part in every step.
    """
    own = rows[RANK::SIZE]
    return (own if len(own) else rows[:1]), len(own) / len(rows)


def own_parts(parts: list[Value]) -> list[Value]:
    """Those of ``parts`` that this process computes: each ``SIZE``-th."""
    return parts[RANK::SIZE]


def broadcast(value: Value) -> Value:
    """What the first process says."""
    values = [value]
    if is_shared():
        with _together():
            torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def gather_in_order(own: Iterable[Value], total: int) -> Iterator[Value]:
    """All ``total`` parts in order, on the first process (the others are given none).

    Args:
        own: the results for :func:`own_parts`.
    """
    if not is_shared():
        yield from own
        return
    parts = chain(own, repeat(None))
    for start in range(0, total, SIZE):
        found: list[Value | None] = [None] * SIZE
        part = next(parts)
        with _together():
            torch.distributed.gather_object(part, found if is_first() else None)
        yield from found[: total - start] if is_first() else []  # type: ignore[misc]


def all_reduce(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over the processes."""
    if is_shared():
        with _together():
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)


def seed_of(address: list[int]) -> int:
    """A seed for what a network draws at ``address``; each process has draws of its own."""
    state = np.random.SeedSequence([*address, *([RANK] if RANK else [])])
    return int(state.generate_state(1, np.uint64)[0])


@contextmanager
def _together() -> Iterator[None]:
    """A process that waits for another in vain says so."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"runtime.launch: {OTHER} ({reason})") from None
