"""Several processes share every batch, and together make what one makes."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.compute import processes
from pipeline.compute.processes import (
    all_reduce,
    broadcast,
    gather_in_order,
    own_parts,
    seed_of,
    share_of,
)
from tools.commands import environment
from tools.sandbox import PROJECT


def as_process(monkeypatch: pytest.MonkeyPatch, rank: int, size: int) -> None:
    monkeypatch.setattr(processes, "RANK", rank)
    monkeypatch.setattr(processes, "SIZE", size)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_shares_are_the_whole_batch_and_their_weights_are_1(
    monkeypatch: pytest.MonkeyPatch, count: int, size: int
) -> None:
    rows = np.arange(100, 100 + count)
    weighted: list[int] = []
    weights = []
    for rank in range(size):
        as_process(monkeypatch, rank, size)
        share, weight = share_of(rows)
        weights.append(weight)
        assert len(share) >= 1
        assert weight == (0 if rank >= count else len(share) / count)
        if weight:
            weighted += share.tolist()
        else:
            assert share.tolist() == [100]
    assert sorted(weighted) == rows.tolist()
    assert sum(weights) == pytest.approx(1)


def test_a_mean_of_shares_is_the_mean_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.random.default_rng(0).random(7)
    total = 0.0
    for rank in range(3):
        as_process(monkeypatch, rank, 3)
        share, weight = share_of(np.arange(7))
        total += losses[share].mean() * weight
    assert total == pytest.approx(losses.mean())


def test_parts_are_shared_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in range(2):
        as_process(monkeypatch, rank, 2)
        shares.append(own_parts(list("abcde")))
    assert shares == [["a", "c", "e"], ["b", "d"]]


def test_one_process_has_everything_at_once() -> None:
    assert own_parts([1, 2, 3]) == [1, 2, 3]
    assert list(gather_in_order(iter([1, 2, 3]), 3)) == [1, 2, 3]
    assert broadcast({"a": 1}) == {"a": 1}
    tensor = torch.ones(2)
    all_reduce([tensor])
    assert tensor.tolist() == [1, 1]


def test_each_process_draws_at_an_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    for rank in range(3):
        as_process(monkeypatch, rank, 3)
        seeds.append(seed_of([2, 0, 1, 5]))
    as_process(monkeypatch, 0, 1)
    assert seeds[0] == seed_of([2, 0, 1, 5])  # as without other processes
    seeds += [seed_of([2, 0, 1, 6]), seed_of([2, 0, 2, 5]), seed_of([2, 1, 1, 5])]
    assert len(set(seeds)) == 6
    assert all(0 <= seed < 2**64 for seed in seeds)


# Trains the small network's head, and evaluates it: the first process writes what comes out.
SHARED = """
import json, sys
from pathlib import Path
import torch
from pipeline.base.cache import Cache
from pipeline.base.launch import is_first
from pipeline.compute.device import setup_torch
from pipeline.models.frozen import Inputs, logits
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.fit import fit
from tests.small import HEAD, small_recipe, small_training, write_small_data
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
device = setup_torch("cpu", 1)
images = write_small_data(folder, {"train": 22, "val": 40})  # three chunks, which they share
# The last batch has two images for three.
recipe = small_recipe(HEAD, epochs=2, batch_size=5, class_weights=sys.argv[2])
training = small_training(images, recipe, Cache(folder / "cache", 10**9))
before = logits(training.network.eval(), training.data.val)
state = Checkpoint(folder / "state", "0" * 64)
history = list(fit(training.network, training.data, recipe, device, state))
after = logits(training.network, training.data.val)
if is_first():
    torch.save([before, after, history], folder / "results")
"""


def run_shared(folder: Path, size: int, class_weights: str) -> Any:
    """Run ``SHARED`` in ``size`` processes, as a launcher would start them."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    variables = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED, str(folder / str(rank)), class_weights],
            cwd=PROJECT,
            env=environment() | ({"RANK": str(rank)} | variables if size > 1 else {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert [(folder / str(rank) / "results").exists() for rank in range(size)] == [
        rank == 0 for rank in range(size)
    ]
    return torch.load(folder / "0" / "results")


@pytest.mark.slow
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_three_processes_train_and_evaluate_as_one(tmp_path: Path, class_weights: str) -> None:
    """Evaluation to the bit; training but for the order of sums."""
    assert "RANK" not in os.environ
    before, after, history = run_shared(tmp_path / "one", 1, class_weights)
    shared_before, shared_after, shared_history = run_shared(tmp_path / "three", 3, class_weights)
    assert torch.equal(shared_before, before)
    torch.testing.assert_close(shared_after, after, rtol=0, atol=1e-5)
    assert not torch.equal(after, before)
    for row, shared_row in zip(history, shared_history, strict=True):
        assert shared_row == pytest.approx(row, abs=1e-5)
