"""The pipeline against the script that a reader of the article would write. Usage: python -m benchmarks.bench [CHANGES]

Both get the same archive, splits and weights, already here, and do the same work: both approaches, all epochs,
validation in each, then the test set. They run in turns, as whole processes. CHANGES is a YAML file of what to change
in params.yaml: benchmarks/reduced.yaml by default, /dev/null for the real experiment.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.params import load_params
from pipeline.runtime import UserError, for_people
from pipeline.statistics import accuracy_interval
from tools.sandbox import PROJECT, environment, update

ROUNDS = 2
DVC = [sys.executable, "-m", "dvc"]


@dataclass
class Run:
    """Wall clock and processor time in seconds, memory of the largest process in MiB, and what was printed."""

    wall: float
    cpu: float
    memory: float
    output: str


def measure(command: list[str], directory: Path) -> Run:
    """Run ``command`` with everything that it starts."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=directory, env=environment(), stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if status:
        raise UserError(f"{' '.join(command[1:])} failed:\n{text[-2000:]}")
    print(f"  {' '.join(command[2:])[:60]}: {wall:.1f} s", flush=True)
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def set_up(directory: Path, changes: Path) -> Path:
    """A sandbox in which the raw files lie, and (returned) the folder of them that torchvision expects."""
    update(directory, yaml.safe_load(changes.read_text()) or {})
    subprocess.run([*DVC, "repro", "download", "backbone"], cwd=directory, env=environment(), check=True)
    folder = directory.with_name("torchvision") / "flowers-102"
    with tarfile.open(directory / "data/raw/102flowers.tgz") as archive:
        archive.extractall(folder, filter="data")
    for name in ("imagelabels.mat", "setid.mat"):
        shutil.copy(directory / "data/raw" / name, folder)
    return folder.parent


def median(runs: list[Run], quantity: str) -> float:
    return statistics.median(getattr(run, quantity) for run in runs)


def main() -> None:
    changes = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("reduced.yaml")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary) / "base"
        root = set_up(base, changes)
        params = load_params(base / "params.yaml")
        arguments = [
            str(root),
            str(base / "data/raw/backbone.pth"),
            str(params.dataset.classes),
            str(params.train.epochs),
        ]
        script, pipeline = [], []
        for number in range(ROUNDS):
            print(f"round {number + 1} of {ROUNDS}", flush=True)
            script.append(measure([sys.executable, "-m", "benchmarks.script", *arguments], PROJECT))
            place = base.with_name(f"round{number}")
            shutil.copytree(base, place, symlinks=True)
            pipeline.append(measure([*DVC, "repro"], place))
        nothing = [measure([*DVC, "repro"], place) for _ in range(5)]
        empty = base.with_name("empty")
        (empty / ".dvc").mkdir(parents=True)
        (empty / "dvc.yaml").write_text("stages: {}\n")
        shutil.copy(base / ".dvc/config", empty / ".dvc/config")
        subprocess.run(["git", "init", "--quiet"], cwd=empty, check=True)
        floor = [measure([*DVC, "repro"], empty) for _ in range(5)]
        rate = "approaches.feature_extraction.learning_rates.fc=2e-3"
        head = [measure([*DVC, "exp", "run", "-S", rate], place)]
        metrics = {
            name: json.loads((base.with_name("round0") / f"metrics/{name}.json").read_text())["test"]
            for name in params.approaches
        }

    print(f"\n| {ROUNDS} rounds, median | script | pipeline | script / pipeline |\n|---|---|---|---|")
    for title, quantity in {
        "wall clock, s": "wall",
        "processor time, s": "cpu",
        "largest process, MiB": "memory",
    }.items():
        left, right = median(script, quantity), median(pipeline, quantity)
        print(f"| {title} | {left:,.0f} | {right:,.0f} | {left / right:.2f} |")
    for name, score in metrics.items():
        found = re.search(rf"^{name}: test loss \S+ accuracy (\S+)$", script[0].output, re.MULTILINE)
        if found:
            cells = []
            for accuracy in (float(found[1]), score["accuracy"]):
                low, high = accuracy_interval(round(accuracy * score["n"]), score["n"])
                cells.append(f"{accuracy:.1%} ({low:.1%} to {high:.1%})")
            print(f"| test accuracy, {name} | {' | '.join(cells)} | |")
    print(f"\nanother learning rate for feature extraction: {head[0].wall:.0f} s")
    ratio = median(nothing, "wall") / median(floor, "wall")
    print(f"dvc repro with nothing to do: {median(nothing, 'wall'):.2f} s, {ratio:.2f} times that of an empty project")


if __name__ == "__main__":
    with for_people():
        main()
