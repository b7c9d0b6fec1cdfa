"""The device that torch computes on, and deterministic arithmetic there."""

import ctypes
import os
import sys

import torch
from torch import nn

from pipeline.base.errors import UserError
from pipeline.compute.processes import join

# Of mallopt(3), in malloc.h of glibc.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
M_ARENA_MAX = -8


def setup_torch(setting: str, threads: int) -> torch.device:
    """The device for ``runtime.device``; torch is set to deterministic algorithms and ``threads``.

    ``auto`` takes CUDA, else Apple's MPS, else the CPU. A device that is named but absent is an
    error, never a silent fallback.

    The number of threads is part of the result: each thread sums its share of a convolution's
    gradient, then the shares are added, so another number rounds differently (measured on ResNet18:
    from the first epoch on).

    Raises:
        UserError: the named device is not available here, or the other processes of a launcher do
            not come.
    """
    # cuBLAS reads this when CUDA starts: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32; set_precision has tf32
    # Uninitialised memory is filled only so that bugs show; it costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    present = [name for name, is_there in _devices().items() if is_there]
    if setting not in ("auto", *present):
        raise UserError(
            f"params.yaml: runtime.device = {setting}, but this machine has only: "
            f"{', '.join(present)} (or say auto)"
        )
    device = torch.device(present[0] if setting == "auto" else setting)
    if device.type == "cuda":
        # One device for each process of this machine.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    join(device)
    return device


def keep_freed_memory() -> None:
    """Let the C library reuse the memory that tensors free, in place of returning it to the system.

    On the CPU every large tensor would else be mapped again, page by page: a thirteenth of the time
    (ResNet18 up to layer3, 2 cores). The peak of memory stays the same. Only glibc can be told.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _devices() -> dict[str, bool]:
    """Which devices there are, best first."""
    return {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }


def set_precision(network: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """Let ``network`` compute in ``precision``; its weights stay float32.

    tf32 rounds the factors of products to 10 bits
    (https://docs.pytorch.org/docs/stable/notes/cuda.html). bf16 is torch's autocast: convolutions
    and linear layers take and give bfloat16 (https://docs.pytorch.org/docs/stable/amp.html).

    Raises:
        UserError: tf32 on a device that has none.
    """
    if precision == "tf32":
        if device.type != "cuda":
            raise UserError(
                f"params.yaml: precision = tf32 needs CUDA, but the device is {device}; say fp32"
            )
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = True
    elif precision == "bf16":
        network.forward = torch.autocast(device.type, torch.bfloat16)(network.forward)
    return network
