"""The environment in which a stage runs: what rounding and encoding depend on beside code and params."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

# Those that compute or write something of an out, and the one that runs the stages.
PACKAGES = [
    "numpy",
    "torch",
    "torchvision",
    "pillow",
    "scipy",
    "matplotlib",
    "pandas",
    "safetensors",
    "onnx",
    "onnxscript",
    "dvc",
]
# Variables with which libraries compute otherwise, by how their names begin. OMP_THREAD_LIMIT=1 even hangs.
VARIABLES = re.compile(
    "(ATEN|CUBLAS(?!_WORKSPACE)|CUDNN|DNNL|GOMP|JSIMD|KMP|MKL|NPY|NVIDIA_TF32|OMP|ONEDNN|OPENBLAS|TORCH_(ALLOW_TF32|CUDNN))_"
)


def discard_variables() -> list[str]:
    """Remove the variables that change the arithmetic from this process's environment; returns their names.

    To be called before the libraries are loaded, which read them once.
    """
    found = sorted(name for name in os.environ if VARIABLES.match(name))
    for name in found:
        del os.environ[name]
    return found


def environment() -> dict[str, str]:
    """What rounding and encoding depend on beside code and params: versions, CPU, GPU. Nothing of who, where or when.

    A GPU is named only where this process has computed on it.
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
        if torch.cuda.is_initialized():
            record["gpu"] = torch.cuda.get_device_name()
            record["cudnn"] = str(torch.backends.cudnn.version())
            record["driver"] = _driver()
    return record


def _cpu() -> str:
    """The CPU's model, where Linux tells it with its numbers: virtual machines call many generations by one name."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    lines = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", text, re.MULTILINE))
    return ", ".join(lines.values()) or platform.processor() or platform.machine()


def _driver() -> str:
    """The NVIDIA driver's version, which torch does not tell."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"
