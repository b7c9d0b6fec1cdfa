"""Where a stage's time goes, operation by operation. Usage:

    python -m benchmarks.profile [--changes YAML] STAGE [ARGUMENT]

After `dvc repro`, in the folder where that ran: the stage runs once more under torch's profiler, in
a folder of its own, with other values of params.yaml ("{train: {epochs: 1}}") if you like.
"""

import argparse
import os
import resource
import time
from importlib import import_module
from pathlib import Path

import torch
import yaml
from torch.autograd import DeviceType
from torch.profiler import profile

from benchmarks.measure import scratch_folder
from pipeline.base.errors import for_people
from pipeline.params import load_params, read_yaml
from tools.merge import merge

ROWS = 12  # operations that take longest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("--changes", type=yaml.safe_load, default={}, metavar="YAML")
    parser.add_argument("stage")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    params = merge(read_yaml("params.yaml"), options.changes)
    stage = import_module(f"stages.{options.stage}").main
    with scratch_folder(Path.cwd(), params) as folder:
        os.chdir(folder)
        start = time.perf_counter()
        with profile() as profiler:
            stage(load_params("params.yaml"), *options.arguments)
        seconds = time.perf_counter() - start
        os.chdir("/")  # so that the folder can be deleted
    show(profiler, seconds)


def show(profiler: profile, seconds: float) -> None:
    """Print how busy the device was, memory, and the operations that took longest."""
    operations = profiler.key_averages()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:.1f} s, {memory:,.0f} MiB")
    keys = ["self_cpu_time_total"]
    if torch.cuda.is_initialized():
        kernels = [event for event in operations if event.device_type == DeviceType.CUDA]
        busy = sum(event.self_device_time_total for event in kernels) / 1e6
        allocated = torch.cuda.max_memory_allocated() / 2**20
        print(f"device busy for {busy:.1f} s ({busy / seconds:.0%}), {allocated:,.0f} MiB there")
        keys.insert(0, "self_device_time_total")
    for key in keys:
        print(operations.table(sort_by=key, row_limit=ROWS, max_name_column_width=60))


if __name__ == "__main__":
    with for_people():
        main()
