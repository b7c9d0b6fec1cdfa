"""How a stage runs, as opposed to what it computes: devices, determinism, errors for people."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import; stages that do not need it shall not wait
    import torch


class UserError(Exception):
    """Something the user can mend. Its text says what is wrong, where, and what to do."""


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's ``main``; a :class:`UserError` becomes one line on stderr and exit code 1, Ctrl-C exit code 130."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        sys.exit(f"error: {error}")


def cpu_workers(setting: int | str) -> int:
    """Number of worker threads for ``runtime.workers``: a positive number, or ``auto`` (one per usable core)."""
    if isinstance(setting, int):
        return setting
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def torch_device(setting: str, threads: int) -> "torch.device":
    """The device for ``runtime.device``, with torch set to deterministic algorithms on ``threads`` CPU threads.

    ``auto`` takes CUDA, else Apple's MPS, else the CPU. A device that is named but absent is an error, never a
    silent fallback.

    The number of threads is part of the result: each thread sums its share of a convolution's gradient, then the
    shares are added, so another number rounds otherwise (measured on ResNet18: from the first epoch on).

    Raises:
        UserError: the named device is not available here.
    """
    # cuBLAS reads this when CUDA starts: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    # Uninitialised memory is only filled so that bugs show; it costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if setting == "auto":
        setting = next(name for name, present in available.items() if present)
    if not available[setting]:
        present = ", ".join(name for name, there in available.items() if there)
        raise UserError(f"params.yaml: runtime.device = {setting}, but this machine has only: {present} (or say auto)")
    return torch.device(setting)
