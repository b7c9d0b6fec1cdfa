"""The pipeline against what people would write instead, one whole process after another.

Usage: python -m benchmarks.bench [OPTIONS]

All get the same archive, splits and weights, which are already here, and do the same work: both
approaches, all epochs, validation in each, then the test set. The pipeline is `dvc repro` from an
empty cache: figures, explanations and the page too.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.inputs import RAW, set_up
from benchmarks.measure import Cost, disk_usage, measure
from pipeline.base.errors import for_people
from pipeline.data.raw import read_classes, read_index
from pipeline.params import Params, load_params
from pipeline.report.statistics import accuracy_interval
from tools.commands import DVC
from tools.merge import merge
from tools.sandbox import PROJECT

STAGES = ("evaluate", "explain", "explore", "report", "train")
MODULES = ", ".join(["dvc.repo.reproduce", *(f"stages.{name}" for name in STAGES)])
NO_OPS = 5  # times that a `dvc repro` with nothing to do is measured
OTHER_RATES = (
    "feature_extraction.learning_rates.fc=2e-3",
    "fine_tuning.learning_rates.layer4=2e-4",
)
PIPELINE = "pipeline"
SAME_WORK = "pipeline, same work"
QUANTITIES = {
    "wall clock, s": "wall",
    "processor time, s": "cpu",
    "largest process, MiB": "memory",
}


@dataclass
class Contender:
    """Something that does the work.

    Attributes:
        module: the script's, or those that the pipeline imports.
        arguments: of the script, behind the number of epochs.
        costs: of each round.
        accuracies: on the test split, fractions by approach.
    """

    module: str
    arguments: list[int] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    accuracies: dict[str, float] = field(default_factory=dict)

    def median(self, quantity: str) -> float:
        """Of the rounds."""
        return statistics.median(getattr(cost, quantity) for cost in self.costs)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench")
    add = parser.add_argument
    add("--full", action="store_true", help="params.yaml, not the tenth that reduced.yaml makes")
    add("--peers", action="store_true", help="fastai and timm too, which `make peers` installs")
    add(
        "--extrapolate",
        action="store_true",
        help="scripts train one and three epochs, from which their time for all follows",
    )
    add(
        "--workers",
        type=int,
        nargs="*",
        default=[2],
        metavar="N",
        help="the script with so many processes that load images, one contender each; or none",
    )
    add(
        "--changes",
        action="append",
        type=yaml.safe_load,
        default=[],
        metavar="YAML",
        help="other values of the pipeline's params.yaml: '{train: {precision: bf16}}'; repeatable",
    )
    add(
        "--same-work",
        action="store_true",
        help="the pipeline once more, no further than `dvc repro evaluate`",
    )
    add("--keep", type=Path, metavar="FOLDER", help="leave the pipeline's last run there")
    add("--rounds", type=int, default=1, metavar="N")
    return parser.parse_args()


def warm_up(modules: str) -> None:
    """Let the system read a contender's imports, which it may have dropped meanwhile."""
    # torch.optim imports torch._dynamo when an optimizer is made.
    imports = f"import {modules}, torch._dynamo"
    subprocess.run([sys.executable, "-c", imports], cwd=PROJECT, check=True)


def run_script(
    contender: Contender, arguments: list[str], params: Params, extrapolate: bool
) -> None:
    """Measure one round of a script, or what it would cost by its first and third epoch."""
    warm_up(contender.module)
    epochs = params.train.epochs
    costs = []
    for count in (1, 3) if extrapolate else (epochs,):
        more = map(str, [count, *contender.arguments])
        costs.append(measure([sys.executable, "-m", contender.module, *arguments, *more], PROJECT))
    output = costs[-1].output
    if extrapolate:
        one, three = costs
        pairs = (epochs - 1) / 2
        wall = one.wall + pairs * (three.wall - one.wall)
        cpu = one.cpu + pairs * (three.cpu - one.cpu)
        contender.costs.append(Cost(wall, cpu, three.memory, output))
        return  # its accuracies are not those of all epochs
    contender.costs.append(costs[0])
    for name in params.approaches:
        line = re.search(rf"^{name}: test loss \S+ accuracy (\S+)$", output, re.MULTILINE)
        if line:
            contender.accuracies[name] = float(line[1])


def run_pipeline(contender: Contender, base: Path, project: Path, stages: list[str]) -> None:
    """Measure one round of the pipeline, or of some stages, in a copy of ``base``."""
    shutil.rmtree(project, ignore_errors=True)
    copy(base, project)
    warm_up(MODULES)
    start = time.time()
    contender.costs.append(measure([*DVC, "repro", *stages], project))
    times = ", ".join(f"{name} {took:.0f}" for name, took in stage_times(project, start).items())
    print(f"  of which, s: {times}", flush=True)
    for path in sorted((project / "evaluation").glob("*.json")):
        contender.accuracies[path.stem] = json.loads(path.read_text())["test"]["accuracy"]


def copy(folder: Path, to: Path) -> None:
    """Copy a folder with its hard links."""
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True)


def stage_times(project: Path, start: float) -> dict[str, float]:
    """Seconds from the end of one stage to the end of the next.

    So DVC's own work counts towards the stage after it.
    """
    records = project.glob("environment/*.json")
    ends = sorted((record.stat().st_mtime, record.stem) for record in records)
    times = [(start, ""), *((end, stage) for end, stage in ends if end > start)]
    return {stage: end - begin for (begin, _), (end, stage) in pairwise(times)}


def table(contenders: dict[str, Contender], approaches: list[str], test_images: int) -> str:
    """A column for each contender: medians, and how many times the pipeline's they are."""
    lines = [["", *contenders], ["---"] * (1 + len(contenders))]
    for title, quantity in QUANTITIES.items():
        one = contenders[PIPELINE].median(quantity)
        medians = [contender.median(quantity) for contender in contenders.values()]
        lines.append([title, *(f"{value:,.0f} ({value / one:.2f})" for value in medians)])
    for approach in approaches:
        cells = []
        for contender in contenders.values():
            accuracy = contender.accuracies.get(approach)
            cells.append("" if accuracy is None else with_interval(accuracy, test_images))
        lines.append([f"test accuracy, {approach}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_interval(accuracy: float, images: int) -> str:
    """An accuracy and its 95 % interval over the images."""
    low, high = accuracy_interval(round(accuracy * images), images)
    return f"{accuracy:.1%} ({low:.1%} to {high:.1%})"


def measure_iterating(project: Path) -> None:
    """Print what a run costs after the first one, and what all of it takes on disk."""
    gigabytes = {
        "in all": disk_usage(project) / 1e9,
        "DVC's cache": disk_usage(project / ".dvc") / 1e9,
        ".cache": disk_usage(project / ".cache") / 1e9,
    }
    print("\non disk, GB: " + ", ".join(f"{name} {size:.2f}" for name, size in gigabytes.items()))
    nothing = no_op(project)
    empty = no_op(empty_project(project))
    for changes in OTHER_RATES:
        start = time.time()
        cost = measure([*DVC, "exp", "run", "-S", f"approaches.{changes}"], project)
        times = stage_times(project, start).items()
        parts = ", ".join(f"{name} {took:.0f}" for name, took in times)
        print(f"another rate, {changes}: {cost.wall:.0f} s ({parts})")
    ratio = nothing / empty
    print(f"dvc repro with nothing to do: {nothing:.2f} s, {ratio:.2f} times an empty project's")


def no_op(project: Path) -> float:
    """Seconds of a `dvc repro` with nothing to do (median)."""
    command = [*DVC, "repro", "--quiet"]
    return statistics.median(measure(command, project).wall for _ in range(NO_OPS))


def empty_project(project: Path) -> Path:
    """A DVC project without stages beside ``project``."""
    empty = project.with_name("empty")
    (empty / ".dvc").mkdir(parents=True)
    (empty / "dvc.yaml").write_text("stages: {}\n")
    shutil.copy(project / ".dvc/config", empty / ".dvc/config")
    subprocess.run(["git", "init", "--quiet"], cwd=empty, check=True)
    return empty


def main() -> None:
    chosen = options()
    reduced = {}
    if not chosen.full:
        reduced = yaml.safe_load(Path(__file__).with_name("reduced.yaml").read_text())
    changes: dict[str, Any] = {}
    for more in chosen.changes:
        changes = merge(changes, more)
    scripts = {
        f"script, {workers} workers": Contender("benchmarks.script", [workers])
        for workers in chosen.workers
    }
    if chosen.peers:
        for name in ("fastai", "timm"):
            scripts[name] = Contender(f"benchmarks.{name}_script")
    pipelines = {PIPELINE: Contender(MODULES)}
    if chosen.same_work:
        pipelines = {SAME_WORK: Contender(MODULES)} | pipelines

    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary) / "base"
        flowers = set_up(base, reduced, changes)
        params = load_params(base / "params.yaml")
        classes = len(read_classes(base / RAW))
        arguments = [str(flowers), str(base / params.backbone.path), str(classes)]
        project = base.with_name("project")
        for number in range(chosen.rounds):
            print(f"round {number + 1} of {chosen.rounds}", flush=True)
            for contender in scripts.values():
                run_script(contender, arguments, params, chosen.extrapolate)
            for name, contender in pipelines.items():
                stages = ["evaluate"] if name == SAME_WORK else []
                run_pipeline(contender, base, project, stages)
        test_images = int((read_index(base / RAW)["split"] == "test").sum())
        print(f"\nmedians of {chosen.rounds} rounds (and how many times the pipeline's)\n")
        print(table(scripts | pipelines, list(params.approaches), test_images))
        if chosen.keep:
            copy(project, chosen.keep)
        measure_iterating(project)


if __name__ == "__main__":
    with for_people():
        main()
