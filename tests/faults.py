"""Kill a whole `dvc repro` at random moments, again and again, and compare with a run that nobody disturbs.

Usage: python -m tests.faults COUNT [SEED]. The tiny pipeline of the tests runs in a temporary folder; whenever it comes
to its end it starts anew, until it has been killed COUNT times. Exit code 1 unless every run ended in the same bytes
and no stage that had finished ran again. Where DVC was killed while it wrote a file of its own, and does not go on by
itself, what README.md says is done, and counted.
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
from pathlib import Path

import psutil

from pipeline.base.errors import UserError
from pipeline.base.files import hex_digest
from pipeline.params import read_yaml
from tests.conftest import TINY
from tools.sandbox import DVC, environment, merge, update

# A scheduler or a power cut, a shutdown, a terminal, and the kernel that is out of memory.
WAYS = ("SIGKILL to all", "SIGTERM to all", "SIGINT to all", "SIGKILL to the stage")


def results(directory: Path) -> dict[str, str]:
    """MD5 of dvc.lock, of the records of the environment, of every file of every out; and what should not be there."""
    stages = read_yaml(directory / "dvc.lock")["stages"].values()
    roots = ["dvc.lock", "environment", *(out["path"] for stage in stages for out in stage["outs"])]
    files = [file for root in roots for file in ((directory / root).rglob("*"), [directory / root])]
    found = {str(path.relative_to(directory)): path for group in files for path in group if path.is_file()}
    left = {str(path.relative_to(directory)): path for path in directory.rglob("*.part")}
    return {name: hex_digest(path, "md5") for name, path in (found | left).items()}


def finished(directory: Path) -> set[str]:
    """The stages that dvc.lock has, if it can be read."""
    try:
        return set(read_yaml(directory / "dvc.lock")["stages"])
    except (UserError, TypeError):  # cut short, or empty
        return set()


class Attack:
    """Kills in one folder, and what came of them."""

    def __init__(self, directory: Path, chance: random.Random, longest: float) -> None:
        """Moments are drawn from 0 to ``longest`` seconds after the start."""
        self.directory, self.chance, self.longest = directory, chance, longest
        self.kills: Counter[str] = Counter()
        self.repeated: list[str] = []  # stages that had finished and ran again
        self.helped: list[str] = []  # what DVC said where `dvc repro` alone did not go on

    def run(self, most: int) -> None:
        """Run `dvc repro` to its end, with at most so many kills before."""
        while True:
            before, log = finished(self.directory), self.directory.with_suffix(".log")
            with log.open("w") as file:
                process = psutil.Popen(
                    [*DVC, "repro"],
                    cwd=self.directory,
                    env=environment(),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            moment = self.chance.uniform(0, self.longest) if self.kills.total() < most else 3600.0
            killed = ""
            try:
                code = process.wait(moment)
            except psutil.TimeoutExpired:
                killed = self.kill(process)
                code = 0
            ran = re.findall(r"^Running stage '(.+)':", log.read_text(), re.MULTILINE)
            self.repeated += before.intersection(ran)
            if killed:
                self.kills[killed] += 1
                doing = f"in {ran[-1]}" if ran else "before any stage"
                print(
                    f"{self.kills.total():4} {killed:20} after {moment:5.1f} s {doing}, {len(before)} done", flush=True
                )
            elif code:
                self.helped.append(log.read_text()[-500:])
                print(f"dvc repro failed by itself: {self.helped[-1]}", flush=True)
                # What a person would do, by README.md.
                for name in ("dvc.lock", ".dvc/tmp/rwlock"):
                    (self.directory / name).unlink(missing_ok=True)
            else:
                return

    def kill(self, process: psutil.Popen) -> str:
        """Kill it in a random way, and wait until all of it is gone."""
        way, family = self.chance.choice(WAYS), process.children(recursive=True)
        stage = [child for child in family if child.name().startswith("python")]
        if way.endswith("stage") and stage:
            stage[-1].kill()
        else:
            way = way.replace("the stage", "all")
            os.killpg(process.pid, signal.Signals[way.split()[0]])
        try:
            process.wait(10.0 if way.endswith("stage") else None)
        except psutil.TimeoutExpired:  # the stage had just ended by itself, and DVC went on
            way = "SIGKILL to all"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        psutil.wait_procs(family, timeout=30)
        return way


def main() -> int:
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    chance, kills, faults = random.Random(seed), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        undisturbed = Path(temporary) / "undisturbed"
        update(undisturbed, merge(TINY, {"threads": 2, "draw": {"backbone": {"threads": 2}}}))
        start = time.monotonic()
        Attack(undisturbed, chance, 0.0).run(0)
        took, expected = time.monotonic() - start, results(undisturbed)
        print(f"undisturbed: {took:.0f} s, {len(expected)} files", flush=True)
        while kills.total() < count:
            directory = Path(temporary) / f"run-{faults['runs']}"
            update(directory, {}, undisturbed)  # the same code, whatever is edited meanwhile
            attack = Attack(directory, chance, took / 6)
            attack.run(count - kills.total())
            found = results(directory)
            different = sorted(name for name in found | expected if found.get(name) != expected.get(name))
            kills += attack.kills
            faults["runs"] += 1
            faults["different files"] += len(different)
            faults["finished stages run again"] += len(attack.repeated)
            faults["times dvc repro failed by itself"] += len(attack.helped)
            print(f"run {faults['runs']}: {attack.kills.total()} kills, different: {', '.join(different) or 'none'}")
    print(f"\n{kills.total()} kills (seed {seed}): {dict(kills)}\n{dict(faults)}")
    return int(bool(faults["different files"] or faults["finished stages run again"]))


if __name__ == "__main__":
    sys.exit(main())
