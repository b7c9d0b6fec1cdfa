"""How learning rates change during a training."""

import math


def rate_factor(step: int, steps: int, warm_up: int, schedule: str) -> float:
    """The share of its learning rate that a module has in a step (0 is the first), 0 to 1.

    It rises in equal parts in the first ``warm_up`` steps; then it stays (constant), or falls to 0
    by half a cosine (Loshchilov & Hutter, ICLR 2017, https://arxiv.org/abs/1608.03983, without
    restarts).
    """
    if step < warm_up:
        return (step + 1) / warm_up
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))) / 2
