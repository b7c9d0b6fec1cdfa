"""Where a stage's time goes, operation by operation. Usage: python -m benchmarks.profile STAGE [ARGUMENT]

After `dvc repro`, from where that ran: the stage runs once more, under torch's profiler; its outs come out the same.
"""

import sys
from importlib import import_module

import torch
from torch.profiler import profile

from pipeline.base.errors import UserError, for_people
from pipeline.params import load_params

ROWS = 20  # operations that take longest


def main() -> None:
    if len(sys.argv) < 2:
        raise UserError("usage: python -m benchmarks.profile STAGE [ARGUMENT]")
    stage, params = import_module(f"stages.{sys.argv[1]}").main, load_params("params.yaml")
    with profile() as profiler:
        stage(params, *sys.argv[2:])
    key = "self_device_time_total" if torch.cuda.is_initialized() else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=key, row_limit=ROWS, max_name_column_width=60))


if __name__ == "__main__":
    with for_people():
        main()
