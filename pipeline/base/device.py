"""The device that torch computes on, and deterministic arithmetic there."""

import os

import torch

from pipeline.base.errors import UserError


def torch_device(setting: str, threads: int) -> torch.device:
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
