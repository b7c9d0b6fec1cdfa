"""The pipeline against what people would write instead, whole processes in turns. Usage: python -m benchmarks.bench

All get the same archive, splits and weights, already here, and do the same work: both approaches, all epochs,
validation in each, then the test set.

--full      the experiment in params.yaml, in place of the one that reduced.yaml makes of it
--peers     fastai and timm too, which must be installed (make peers)
--extrapolate  scripts train one and three epochs, from which their time for all follows; no accuracies of theirs
--workers N N  the script with so many processes that load images, one contender each; 2 by default
--changes Y    what the pipeline's params.yaml has otherwise, as YAML: "{precision: bf16}"
--rounds N  once round by default
"""

import argparse
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import scipy.io
import torch
import yaml
from PIL import Image
from torch.optim.swa_utils import update_bn

from benchmarks.measure import Cost, measure
from benchmarks.script import BATCH, EVAL
from pipeline.base.errors import for_people
from pipeline.data.raw import read_archive, read_classes, read_index
from pipeline.models.networks import pretrained_network, read_backbone
from pipeline.params import Params, load_params
from pipeline.report.confidence import accuracy_interval
from pipeline.sources.flowers102 import VARIABLES
from tools.sandbox import PROJECT, environment, merge, update

DVC = [sys.executable, "-m", "dvc"]
RAW = Path("data/raw")
PIPELINE = "dvc.repo.reproduce, stages.compare, stages.explore, stages.prepare, stages.train"  # import it all
TILES = 4  # times 125 pixels: the short side of the photographs of Flowers-102
EVERY = 4  # image gives its statistics to the drawn backbone
NO_OPS = 5  # times that a `dvc repro` with nothing to do is measured


def set_up(directory: Path, reduced: dict[str, Any], changes: dict[str, Any]) -> Path:
    """A sandbox with raw data and a backbone, and (returned) the same images as torchvision expects Flowers-102."""
    if reduced:
        reduced = drawn(directory.with_name("drawn"), reduced)
    make_raw(directory, merge(reduced, changes))
    root = directory.with_name("torchvision")
    write_flowers(root / "flowers-102", directory / RAW)
    return root


def make_raw(directory: Path, changes: dict[str, Any]) -> Params:
    """Run what makes raw data and the backbone in a sandbox; returns its params."""
    update(directory, changes)
    params = load_params(directory / "params.yaml")
    stages = ["images"]
    if params.draw.backbone:
        stages.append("draw@backbone")
    if "backbone" in params.download:
        stages.append("download@backbone")
    subprocess.run([*DVC, "repro", "--quiet", *stages], cwd=directory, env=environment(), check=True)
    return params


def write_flowers(folder: Path, raw: Path) -> None:
    """Raw data in the layout of Flowers-102; an image gets the number of its row in the index, from 1."""
    index = read_index(raw)
    numbers = {member: row + 1 for row, member in enumerate(index["member"])}
    (folder / "jpg").mkdir(parents=True)
    for number, _, content in read_archive(raw / "images.tar", numbers):
        (folder / f"jpg/image_{number:05d}.jpg").write_bytes(content)
    splits = {name: 1 + np.flatnonzero(index["split"] == split) for split, name in VARIABLES.items()}
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": index["label"].to_numpy() + 1})
    scipy.io.savemat(folder / "setid.mat", splits)


def drawn(directory: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Draw the images and the backbone of ``changes``, tile the images; returns ``changes`` that use the result.

    The statistics of the backbone's BatchNorm layers are taken anew from every EVERY-th image: those of ImageNet suit
    photographs of flowers, those of the small squares on which this backbone was pretrained would not suit the tiles,
    and a script whose frozen BatchNorm layers move would learn what a pipeline whose do not cannot.
    """
    params = make_raw(directory, changes)
    small, large, views = directory / RAW, directory / "large", []
    large.mkdir()
    for name in ("index.csv", "classes.csv"):
        shutil.copy(small / name, large)
    with tarfile.open(small / "images.tar") as source, tarfile.open(large / "images.tar", "w:gz") as target:
        for number, member in enumerate(source):
            image = np.asarray(Image.open(cast(IO[bytes], source.extractfile(member))))
            tiles = Image.fromarray(np.tile(image, (TILES, TILES, 1)))
            if number % EVERY == 0:
                views.append(EVAL(tiles))
            content = io.BytesIO()
            tiles.save(content, "JPEG", quality=90)
            member.size = content.tell()
            content.seek(0)
            target.addfile(member, content)
    network = params.backbone.network
    backbone = pretrained_network(network, read_backbone(directory / params.backbone.path))
    update_bn(torch.stack(views).split(BATCH), backbone)
    adapted = directory / "adapted.pth"
    torch.save(backbone.state_dict(), adapted)
    return changes | {
        "draw": {"images": None, "backbone": None},
        "images": {"source": "indexed", "path": str(large)},
        "backbone": {"network": network, "path": str(adapted)},
    }


def warm_up(modules: str) -> None:
    """Have the system read a contender's imports, which it may have dropped while the one before was running."""
    imports = f"import {modules}, torch._dynamo"  # which torch.optim imports when an optimizer is made
    subprocess.run([sys.executable, "-c", imports], cwd=PROJECT, check=True)


def profile(project: Path, start: float) -> dict[str, float]:
    """Seconds from the end of one stage to the end of the next, so DVC's own work counts towards the stage after it."""
    ends = sorted((record.stat().st_mtime, record.stem) for record in project.glob("environment/*.json"))
    times = [(start, ""), *((end, stage) for end, stage in ends if end > start)]
    return {stage: end - begin for (begin, _), (end, stage) in pairwise(times)}


def script_cost(command: list[str], epochs: int, more: list[int], extrapolate: bool) -> Cost:
    """What a script costs (``more`` are arguments behind the epochs), or would cost by what one and three epochs do."""
    counts = (1, 3) if extrapolate else (epochs,)
    costs = [measure([*command, *map(str, [count, *more])], PROJECT) for count in counts]
    if not extrapolate:
        return costs[0]
    (one, three), pairs = costs, (epochs - 1) / 2
    wall, cpu = one.wall + pairs * (three.wall - one.wall), one.cpu + pairs * (three.cpu - one.cpu)
    return Cost(wall, cpu, three.memory, "")


def accuracies(output: str, params: Params) -> dict[str, float]:
    """Test accuracies that a script printed, by approach."""
    return {
        name: float(found[1])
        for name in params.approaches
        if (found := re.search(rf"^{name}: test loss \S+ accuracy (\S+)$", output, re.MULTILINE))
    }


def report(costs: dict[str, list[Cost]], results: dict[str, dict[str, float]], test: int) -> str:
    """A table, one column a contender: medians, and how many times the pipeline's they are."""
    quantities = {"wall clock, s": "wall", "processor time, s": "cpu", "largest process, MiB": "memory"}
    lines = [["", *costs], ["---"] * (1 + len(costs))]
    for title, quantity in quantities.items():
        medians = {name: statistics.median(getattr(cost, quantity) for cost in runs) for name, runs in costs.items()}
        cells = [f"{value:,.0f} ({value / medians['pipeline']:.2f})" for value in medians.values()]
        lines.append([title, *cells])
    for approach in results["pipeline"]:
        cells = []
        for name in costs:
            accuracy = results[name].get(approach)
            if accuracy is None:
                cells.append("")
            else:
                low, high = accuracy_interval(round(accuracy * test), test)
                cells.append(f"{accuracy:.1%} ({low:.1%} to {high:.1%})")
        lines.append([f"test accuracy, {approach}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def iterating(project: Path) -> None:
    """What a run costs after the first one."""
    empty = project.with_name("empty")
    (empty / ".dvc").mkdir(parents=True)
    (empty / "dvc.yaml").write_text("stages: {}\n")
    shutil.copy(project / ".dvc/config", empty / ".dvc/config")
    subprocess.run(["git", "init", "--quiet"], cwd=empty, check=True)
    nothing, floor = (
        statistics.median(measure([*DVC, "repro", "--quiet"], place).wall for _ in range(NO_OPS))
        for place in (project, empty)
    )
    rate = "approaches.feature_extraction.learning_rates.fc=2e-3"
    head = measure([*DVC, "exp", "run", "-S", rate], project).wall
    print(f"\nanother learning rate for feature extraction: {head:.0f} s")
    print(f"dvc repro with nothing to do: {nothing:.2f} s, {nothing / floor:.2f} times that of an empty project")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--extrapolate", action="store_true")
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--changes", type=yaml.safe_load, default={})
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    reduced = {} if options.full else yaml.safe_load(Path(__file__).with_name("reduced.yaml").read_text())
    scripts = {f"script, {workers} workers": ("benchmarks.script", [workers]) for workers in options.workers}
    if options.peers:
        scripts |= {name: (f"benchmarks.{name}_script", []) for name in ("fastai", "timm")}

    costs: dict[str, list[Cost]] = {name: [] for name in (*scripts, "pipeline")}
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary) / "base"
        root = set_up(base, reduced, options.changes)
        params = load_params(base / "params.yaml")
        classes, test = len(read_classes(base / RAW)), int((read_index(base / RAW)["split"] == "test").sum())
        arguments = [root, base / params.backbone.path, classes]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            for name, (module, more) in scripts.items():
                warm_up(module)
                command = [sys.executable, "-m", module, *map(str, arguments)]
                costs[name].append(script_cost(command, params.train.epochs, more, options.extrapolate))
                results[name] = accuracies(costs[name][-1].output, params)
            project = base.with_name(f"round{number}")
            shutil.copytree(base, project, symlinks=True)
            warm_up(PIPELINE)
            start = time.time()
            costs["pipeline"].append(measure([*DVC, "repro"], project))
            stages = profile(project, start)
        metrics = {name: json.loads((project / f"metrics/{name}.json").read_text()) for name in params.approaches}
        results["pipeline"] = {name: metric["test"]["accuracy"] for name, metric in metrics.items()}
        print(f"\nmedians of {options.rounds} rounds (and how many times the pipeline's)\n")
        print(report(costs, results, test))
        print(
            "\nwhere the pipeline's time goes, s: " + ", ".join(f"{name} {took:.0f}" for name, took in stages.items())
        )
        iterating(project)


if __name__ == "__main__":
    with for_people():
        main()
