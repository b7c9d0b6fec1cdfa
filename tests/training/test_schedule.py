"""Learning rates rise in the warm-up, and then stay or fall to 0."""

import pytest
import torch

from pipeline.training.schedule import rate_factor


def test_a_constant_rate_stays() -> None:
    assert [rate_factor(step, 8, 0, "constant") for step in range(8)] == [1.0] * 8


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_it_rises_in_equal_parts(schedule: str) -> None:
    assert [rate_factor(step, 8, 4, schedule) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_half_a_cosine_is_that_of_torch() -> None:
    found = [rate_factor(step, 8, 2, "cosine") for step in range(2, 9)]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    for rate in found:
        assert rate == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert found[3] == pytest.approx(0.5)
    assert found[6] == pytest.approx(0)
