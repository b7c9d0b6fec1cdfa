"""What a command costs, with everything that it starts; and folders in which stages run."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.errors import UserError
from tools.commands import environment
from tools.sandbox import PROJECT

# A small process starts the command and waits for it, because Linux counts the memory of the
# starting process towards the peak of the started one.
LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stderr=subprocess.STDOUT)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
processor = usage.ru_utime + usage.ru_stime
with open(sys.argv[1], "w") as file:
    json.dump([status, wall, processor, usage.ru_maxrss / 1024], file)
"""
LINKED = ("models", "predictions")  # folders of outs that stages read


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        wall: seconds by the clock.
        cpu: seconds of all processors.
        memory: of the largest process, MiB.
        output: what was printed.
    """

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
        result = Path(temporary) / "result.json"
        printed = Path(temporary) / "output.txt"
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(result), *command]
        with printed.open("w") as file:
            subprocess.run(launcher, cwd=directory, env=environment(), stdout=file, check=True)
        status, wall, cpu, memory = json.loads(result.read_text())
        output = printed.read_text(errors="replace")
    if status:
        raise UserError(f"{' '.join(command)} failed:\n{output[-2000:]}")
    print(f"  {' '.join(command[2:])[:60]}: {wall:.1f} s", flush=True)
    return Cost(wall, cpu, memory, output)


def disk_usage(folder: Path) -> int:
    """Bytes that a folder takes on disk; a file with several names (hard links) counts once."""
    sizes = {}
    for path in folder.rglob("*"):
        stat = path.lstat()
        sizes[stat.st_ino] = 512 * stat.st_blocks
    return sum(sizes.values())


@contextmanager
def scratch_folder(project: Path, params: dict[str, Any]) -> Iterator[Path]:
    """A folder in which stages run with other params, on the data and the cache of ``project``.

    Nothing in ``project`` changes but the cache.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        (project / ".cache").mkdir(exist_ok=True)
        for name in (".cache", "data"):
            (folder / name).symlink_to(project / name)
        for name in ("benchmarks", "pipeline", "stages"):
            (folder / name).symlink_to(PROJECT / name)
        for name in LINKED:  # file by file, so that what a stage writes stays in the folder
            (folder / name).mkdir()
            for path in (project / name).glob("*"):
                (folder / name / path.name).symlink_to(path)
        yield folder
