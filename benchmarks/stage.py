"""One stage as `python -m stages` runs it, and the memory that it took on the device.

Usage: python -m benchmarks.stage STAGE [ARGUMENT]
"""

import runpy
import sys

TITLE = "largest memory on the device, MiB:"


def main() -> None:
    runpy.run_module("stages", run_name="__main__", alter_sys=True)
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        print(TITLE, round(torch.cuda.max_memory_allocated() / 2**20))


def device_memory(output: str) -> int | None:
    """MiB on the device, of what a stage printed; None if it used none."""
    lines = [line for line in output.splitlines() if line.startswith(TITLE)]
    return int(lines[-1].removeprefix(TITLE)) if lines else None


if __name__ == "__main__":
    main()
