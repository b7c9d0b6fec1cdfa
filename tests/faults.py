"""Kill a whole `dvc repro` at random moments, and compare with a run that nobody disturbs.

Usage: python -m tests.faults COUNT [SEED]. The tiny pipeline of the tests runs in a temporary
folder. Whenever it has come to its end, another one begins, until COUNT runs were killed. The exit
code is 1 unless every pipeline ended in the same bytes and no stage that had finished ran again.
Where DVC was killed while it wrote a file of its own, and does not continue by itself,
docs/troubleshooting.md says what to do; that is done here too, and counted.
"""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from pipeline.base.errors import UserError
from pipeline.base.files import hex_digest
from pipeline.params import read_yaml
from tests.conftest import TINY
from tools.commands import DVC, environment
from tools.sandbox import update

# A scheduler or a power cut, a shutdown, a terminal, and a system that is out of memory.
ALL = ("SIGKILL", "SIGTERM", "SIGINT")
STAGE = "SIGKILL to the stage"
WAYS = (*(f"{name} to all" for name in ALL), STAGE)
NOT_OUTS = {".cache", ".dvc"}  # may hold unfinished files, which the next run deletes


def outs(directory: Path) -> list[str]:
    """Files and folders that the stages made, as dvc.lock names them."""
    stages = read_yaml(directory / "dvc.lock")["stages"].values()
    return [out["path"] for stage in stages for out in stage["outs"]]


def digests(directory: Path, roots: Iterable[str]) -> dict[str, str]:
    """MD5 of every file that is one of ``roots`` or below one, by its name in ``directory``."""
    found = {}
    for root in (directory / root for root in roots):
        for path in [root, *root.rglob("*")]:
            if path.is_file():
                found[path.relative_to(directory).as_posix()] = hex_digest(path, "md5")
    return found


def results(directory: Path) -> dict[str, str]:
    """MD5 of dvc.lock, of the environment's records, of all outs; and what should not be there."""
    files = [path.relative_to(directory) for path in directory.rglob("*.part")]
    left = [path.as_posix() for path in files if path.parts[0] not in NOT_OUTS]
    return digests(directory, ["dvc.lock", "environment", *outs(directory), *left])


def finished(directory: Path) -> set[str]:
    """The stages that dvc.lock has, if it can be read."""
    try:
        return set(read_yaml(directory / "dvc.lock")["stages"])
    except (UserError, TypeError):  # not there, cut short, or empty
        return set()


class Attack:
    """Kills in one folder, and what came of them.

    Attributes:
        kills: how often it was killed in each way.
        repeated: stages that had finished and ran again.
        helped: what DVC printed where `dvc repro` alone did not continue.
    """

    def __init__(self, directory: Path, chance: random.Random, longest: float) -> None:
        """Moments are drawn from 0 to ``longest`` seconds after the start."""
        self.directory = directory
        self.chance = chance
        self.longest = longest
        self.kills: Counter[str] = Counter()
        self.repeated: list[str] = []
        self.helped: list[str] = []

    def run(self, most: int) -> None:
        """Run `dvc repro` to its end, with at most so many kills before."""
        log = self.directory.with_suffix(".log")
        is_at_end = False
        while not is_at_end:
            before = finished(self.directory)
            with log.open("w") as file:
                process = psutil.Popen(
                    [*DVC, "repro"],
                    cwd=self.directory,
                    env=environment(),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            is_to_be_killed = self.kills.total() < most
            moment = self.chance.uniform(0, self.longest) if is_to_be_killed else None
            killed = ""
            try:
                process.wait(moment)
            except psutil.TimeoutExpired:
                killed = self.kill(process)
            text = log.read_text()
            ran = re.findall(r"^Running stage '(.+)':", text, re.MULTILINE)
            self.repeated += before.intersection(ran)
            if killed:
                self.kills[killed] += 1
                place = f"in {ran[-1]}" if ran else "before any stage"
                number = self.kills.total()
                print(
                    f"{number:4} {killed:20} after {moment:5.1f} s {place}, {len(before)} done",
                    flush=True,
                )
            elif process.returncode:
                self.help(text[-500:])
            else:
                is_at_end = True

    def kill(self, process: psutil.Popen) -> str:
        """Kill it in a random way, and wait until all of it has ended; says which way it was."""
        family = process.children(recursive=True)
        stages = [child for child in family if child.name().startswith("python")]
        way = self.chance.choice(WAYS)
        if way == STAGE and stages:
            stages[-1].kill()
            patience = 10.0
        else:
            way = "SIGKILL to all" if way == STAGE else way
            os.killpg(process.pid, signal.Signals[way.split()[0]])
            patience = None
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:  # the stage had just ended by itself, and DVC went on
            way = "SIGKILL to all"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        psutil.wait_procs(family, timeout=30)
        return way

    def help(self, message: str) -> None:
        """Do what a person would do, by docs/troubleshooting.md, where DVC does not continue."""
        self.helped.append(message)
        print(f"dvc repro failed by itself: {message}", flush=True)
        for name in ("dvc.lock", ".dvc/tmp/rwlock"):
            (self.directory / name).unlink(missing_ok=True)


def main() -> int:
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        undisturbed = Path(temporary) / "undisturbed"
        update(undisturbed, TINY | {"threads": 2})
        start = time.monotonic()
        Attack(undisturbed, chance, 0.0).run(0)
        seconds = time.monotonic() - start
        expected = results(undisturbed)
        print(f"undisturbed: {seconds:.0f} s, {len(expected)} files", flush=True)
        while kills.total() < count:
            directory = Path(temporary) / f"run-{faults['runs']}"
            update(directory, {}, undisturbed)  # the same code, whatever is edited meanwhile
            attack = Attack(directory, chance, seconds / 3)
            attack.run(count - kills.total())
            found = results(directory)
            names = sorted(found | expected)
            different = [name for name in names if found.get(name) != expected.get(name)]
            kills += attack.kills
            faults["runs"] += 1
            faults["different files"] += len(different)
            faults["finished stages run again"] += len(attack.repeated)
            faults["times dvc repro failed by itself"] += len(attack.helped)
            print(f"run {faults['runs']}: different: {', '.join(different) or 'none'}", flush=True)
    print(f"\n{kills.total()} kills (seed {seed}): {dict(kills)}\n{dict(faults)}")
    return int(bool(faults["different files"] or faults["finished stages run again"]))


if __name__ == "__main__":
    sys.exit(main())
