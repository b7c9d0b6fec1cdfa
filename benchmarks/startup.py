"""How long a stage takes to start: seconds of its imports.

Usage: python -m benchmarks.startup [--cold]

A row a stage: seconds of the whole process (median), whether it imports torch, and the packages
that take longest (-X importtime). With a CUDA device: also its start and the first convolution.
--cold: each time without the files of Python's packages in the page cache, as after a boot.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

from pipeline.base.errors import for_people
from tools.sandbox import PROJECT

ROUNDS = 3
HEAVIEST = 4  # packages to name
# A stage imports the source of images when it runs.
MORE = {"images": ", pipeline.sources.flowers102"}
CUDA = {
    "CUDA, start": "import torch; torch.cuda.init()",
    "CUDA, first convolution": (
        "import torch; image = torch.zeros(1, 3, 9, 9, device='cuda'); "
        "torch.nn.Conv2d(3, 8, 3, device='cuda')(image).cpu()"
    ),
}
IMPORT = re.compile(r"import time: +(\d+) \| +\d+ \| +([\w.]+)")


def programs() -> dict[str, str]:
    """What to start, by name: nothing, torch, each stage, and the device if there is one."""
    found = {"python": "pass", "torch": "import torch"}
    for path in sorted((PROJECT / "stages").glob("[a-z]*.py")):
        found[path.stem] = f"import stages.__main__, stages.{path.stem}{MORE.get(path.stem, '')}"
    code = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    if not subprocess.run([sys.executable, "-c", code]).returncode:
        found |= CUDA
    return found


def seconds(code: str, is_cold: bool) -> float:
    """Seconds of a Python process that runs ``code``, from its start to its end."""
    if is_cold:
        drop_from_page_cache(Path(sysconfig.get_path("purelib")))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
    return time.perf_counter() - start


def drop_from_page_cache(folder: Path) -> None:
    """Let the system forget what it has read of a folder's files, where no process uses them."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def imports(code: str) -> Counter[str]:
    """Seconds that the modules of each package take to import; a package as the last part."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, cwd=PROJECT, check=True, stderr=subprocess.PIPE, text=True)
    found: Counter[str] = Counter()
    for microseconds, module in IMPORT.findall(done.stderr):
        found[module.partition(".")[0]] += int(microseconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--cold", action="store_true")
    is_cold = parser.parse_args().cold
    print("| started | seconds | torch | heaviest packages, s |\n|---|---|---|---|")
    for name, code in programs().items():
        if not is_cold:
            seconds(code, is_cold)  # reads the files
        median = statistics.median(seconds(code, is_cold) for _ in range(ROUNDS))
        found = imports(code)
        heaviest = [f"{package} {took / 1e6:.2f}" for package, took in found.most_common(HEAVIEST)]
        torch = "yes" if "torch" in found else "no"
        print(f"| {name} | {median:.2f} | {torch} | {', '.join(heaviest)} |", flush=True)


if __name__ == "__main__":
    with for_people():
        main()
