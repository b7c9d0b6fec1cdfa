"""Threads change no result, and read only a few items ahead."""

import time
from collections.abc import Iterator

from pipeline.base.parallel import cpu_workers, parallel_map


def test_results_come_in_the_order_of_the_items() -> None:
    def late(item: int) -> int:
        time.sleep(0.01 if item % 3 == 0 else 0)
        return item * item

    for workers in (1, 4):
        results = list(parallel_map(late, range(20), workers))
        assert results == [item * item for item in range(20)]


def test_only_a_few_items_are_read_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = parallel_map(str, items(), workers=2)
    assert next(results) == "0"
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]


def test_workers_are_a_number_or_one_for_each_core() -> None:
    assert cpu_workers(3) == 3
    assert cpu_workers("auto") >= 1
