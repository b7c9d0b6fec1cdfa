"""Threads change no result, and read only a few items ahead."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.base.parallel import cpu_quota, cpu_workers, parallel_map


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


# Control groups as Linux shows them: which the process is in, the files, the CPUs that follow.
CONTAINER_V1 = "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n0::/\n"
QUOTAS = {
    "version 2, in a container": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
    "version 2, no limit": ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
    "version 2, the group around it is smaller": (
        "0::/jobs/1/step\n",
        {
            "jobs/cpu.max": "400000 100000\n",
            "jobs/1/cpu.max": "200000 100000\n",
            "jobs/1/step/cpu.max": "max 100000\n",
        },
        2.0,
    ),
    "version 1, mounted as the root of the container": (
        CONTAINER_V1,
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        0.5,
    ),
    "version 1, under its own name": (
        "2:cpu:/docker/1f\n",
        {
            "cpu/docker/1f/cpu.cfs_quota_us": "300000\n",
            "cpu/docker/1f/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
        3.0,
    ),
    "no control groups": ("", {}, math.inf),
}


@pytest.mark.parametrize(("membership", "files", "cpus"), QUOTAS.values(), ids=QUOTAS.keys())
def test_the_quota_of_a_container_is_read(
    tmp_path: Path, membership: str, files: dict[str, str], cpus: float
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "fs") == cpus


def test_a_quota_bounds_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)), raising=False)
    for quota, workers in ((0.5, 1), (1.5, 2), (64.0, 16), (math.inf, 16)):
        monkeypatch.setattr("pipeline.base.parallel.cpu_quota", lambda found=quota: found)
        assert cpu_workers("auto") == workers
    assert cpu_workers(32) == 32  # a number is a number
