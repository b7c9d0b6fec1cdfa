"""How a stage runs, as opposed to what it computes: devices, determinism, errors for people."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import write_json

if TYPE_CHECKING:  # torch takes seconds to import; stages that do not need it shall not wait
    import torch

# Those that compute or write something of an out, and the one that runs the stages.
PACKAGES = ("numpy", "torch", "torchvision", "pillow", "scipy", "matplotlib", "pandas", "safetensors", "dvc")


class UserError(Exception):
    """Something the user can mend. Its text says what is wrong, where, and what to do."""


@contextmanager
def for_people() -> Iterator[None]:
    """A :class:`UserError` becomes one line on stderr and exit code 1, Ctrl-C exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        sys.exit(f"error: {error}")


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's ``main``, errors :func:`for_people`; then record in environment/STAGE.json where it ran.

    The record is no out: outs are the same on every machine, or shall be. It tells where those of the last run
    were made, so that results that differ can be explained.
    """
    with for_people():
        main()
        stage = "-".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
        write_json(f"environment/{stage}.json", environment())


def environment() -> dict[str, str]:
    """What rounding and encoding depend on beside code and params: versions, CPU, GPU. Nothing of who, where or when.

    A GPU is named only where the stage has loaded torch.
    """
    from PIL import features  # here, because a stage may not need it

    system = " ".join([platform.system(), platform.machine(), *platform.libc_ver()]).strip()
    record = {"python": platform.python_version(), "platform": system, "cpu": _cpu()}
    for package in PACKAGES:
        try:
            record[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # dvc may live in an environment of its own
            record[package] = "not installed"
    record["jpeg"] = str(features.version("libjpeg_turbo") or features.version("jpg"))
    if torch := sys.modules.get("torch"):
        record["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_available():
            record["gpu"] = torch.cuda.get_device_name()
            record["cudnn"] = str(torch.backends.cudnn.version())
            record["driver"] = _driver()
    return record


def _cpu() -> str:
    """The CPU's model, where Linux tells it with its numbers: virtual machines call many generations by one name."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    lines = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", text, re.MULTILINE))
    return ", ".join(lines.values()) or platform.processor() or platform.machine()


def _driver() -> str:
    """The NVIDIA driver's version, which torch does not tell."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


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
    # As use_deterministic_algorithms(True), which would import the compiler, a second and a half, to tell it too.
    torch.set_deterministic_debug_mode("error")
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
