"""What a command costs, with everything that it starts.

A small process starts the command and waits for it, because Linux counts the memory of the starting process towards
the peak of the started one.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import UserError
from tools.sandbox import environment

LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stderr=subprocess.STDOUT)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
json.dump([status, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024], open(sys.argv[1], "w"))
"""


@dataclass
class Cost:
    """Wall clock and processor time in seconds, memory of the largest process in MiB, and what was printed."""

    wall: float
    cpu: float
    memory: float
    output: str


def measure(command: list[str], directory: Path) -> Cost:
    """Run ``command`` in ``directory``.

    Raises:
        UserError: it failed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        result, output = Path(temporary) / "result.json", Path(temporary) / "output.txt"
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(result), *command]
        with output.open("w") as file:
            subprocess.run(launcher, cwd=directory, env=environment(), stdout=file, check=True)
        status, wall, cpu, memory = json.loads(result.read_text())
        text = output.read_text()
    if status:
        raise UserError(f"{' '.join(command)} failed:\n{text[-2000:]}")
    print(f"  {' '.join(command[2:])[:60]}: {wall:.1f} s", flush=True)
    return Cost(wall, cpu, memory, text)
