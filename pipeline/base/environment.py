"""The environment of a stage: what rounding and encoding depend on besides code and params."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

# Packages that compute or write part of an out, and the one that runs the stages.
PACKAGES = [
    "numpy",
    "torch",
    "torchvision",
    "pillow",
    "pillow-heif",
    "scipy",
    "matplotlib",
    "pandas",
    "safetensors",
    "onnx",
    "onnxscript",
    "dvc",
]
# How the names of variables begin that change what libraries compute. CUBLAS_WORKSPACE_CONFIG is
# set by the pipeline itself.
PREFIXES = [
    "ATEN",
    "CUBLAS(?!_WORKSPACE)",
    "CUDNN",
    "DNNL",
    "GOMP",
    "JSIMD",
    "KMP",
    "MKL",
    "NPY",
    "NVIDIA_TF32",
    "OMP",  # OMP_THREAD_LIMIT=1 even makes torch hang
    "ONEDNN",
    "OPENBLAS",
    "TORCH_ALLOW_TF32",
    "TORCH_CUDNN",
]
VARIABLES = re.compile(f"({'|'.join(PREFIXES)})_")


def discard_variables() -> list[str]:
    """Remove variables that change the arithmetic from ``os.environ``; returns their names.

    To be called before the libraries are loaded, which read them once.
    """
    found = sorted(name for name in os.environ if VARIABLES.match(name))
    for name in found:
        del os.environ[name]
    return found


def environment() -> dict[str, str]:
    """Versions, CPU and GPU; nothing that says who ran the stage, where or when.

    A GPU is named only if this process has computed on it.
    """
    record = dict(_constant_part())
    torch = sys.modules.get("torch")  # only if the stage has imported it
    if torch:
        record["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_initialized():
            record["gpu"] = torch.cuda.get_device_name()
            record["cudnn"] = str(torch.backends.cudnn.version())
            record["driver"] = _driver()
    return record


@cache
def _constant_part() -> dict[str, str]:
    """What does not change while a process runs; to find it takes 20 ms."""
    from PIL import features  # not at the top: not every caller needs Pillow

    system = " ".join([platform.system(), platform.machine(), *platform.libc_ver()]).strip()
    record = {"python": platform.python_version(), "platform": system, "cpu": _cpu()}
    for package in PACKAGES:
        record[package] = _version(package)
    record["jpeg"] = str(features.version("libjpeg_turbo") or features.version("jpg"))
    return record


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # DVC may be in an environment of its own
        return "not installed"


def _cpu() -> str:
    """The CPU's model: name, family and number on Linux (virtual machines reuse names)."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    lines = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", text, re.MULTILINE))
    return ", ".join(lines.values()) or platform.processor() or platform.machine()


def _driver() -> str:
    """The version of NVIDIA's driver, which torch does not know."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"
