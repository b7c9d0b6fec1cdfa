"""The device that torch computes on, and deterministic arithmetic there."""

import os

import torch

from pipeline.base.distributed import join
from pipeline.base.errors import UserError


def torch_device(setting: str, threads: int) -> torch.device:
    """The device for ``runtime.device``, with torch set to deterministic algorithms on ``threads`` CPU threads.

    ``auto`` takes CUDA, else Apple's MPS, else the CPU. A device that is named but absent is an error, never a
    silent fallback.

    The number of threads is part of the result: each thread sums its share of a convolution's gradient, then the
    shares are added, so another number rounds otherwise (measured on ResNet18: from the first epoch on).

    Raises:
        UserError: the named device is not available here, or the other processes of a launcher do not come.
    """
    # cuBLAS reads this when CUDA starts: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32; pipeline/models/sections.py has tf32
    # Uninitialised memory is only filled so that bugs show; it costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    present = [name for name, there in available.items() if there]
    if setting not in ("auto", *present):
        has = ", ".join(present)
        raise UserError(f"params.yaml: runtime.device = {setting}, but this machine has only: {has} (or say auto)")
    device = torch.device(present[0] if setting == "auto" else setting)
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))  # one for each process of this machine
    join(device)
    return device
