"""The pipeline against what people would write instead, whole processes in turns. Usage: python -m benchmarks.bench

All get the same archive, splits and weights, already here, and do the same work: both approaches, all epochs,
validation in each, then the test set.

--full      the experiment in params.yaml, in place of the one that reduced.yaml makes of it
--peers     fastai and timm too, which must be installed (make peers)
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
import torch
import yaml
from PIL import Image
from pipeline.files import hex_digest
from pipeline.model import pretrained_network, read_backbone
from pipeline.runtime import for_people
from pipeline.statistics import accuracy_interval
from torch.optim.swa_utils import update_bn

from benchmarks.measure import Cost, measure
from benchmarks.script import BATCH, EVAL
from pipeline.params import Params, load_params
from tools.sandbox import PROJECT, environment, update

DVC = [sys.executable, "-m", "dvc"]
RAW = ["download", "backbone"]  # the stages that make the raw files
PIPELINE = "dvc.repo.reproduce, stages.compare, stages.inspect, stages.prepare, stages.train"  # import it all
TILES = 4  # times 125 pixels: the short side of the photographs of Flowers-102
EVERY = 4  # picture gives its statistics to the drawn backbone
NO_OPS = 5  # times that a `dvc repro` with nothing to do is measured


def set_up(directory: Path, changes: dict[str, Any]) -> Path:
    """A sandbox in which the raw files lie, and (returned) the folder of them that torchvision expects."""
    if changes:
        changes = drawn(directory.with_name("drawn"), changes)
    update(directory, changes)
    subprocess.run([*DVC, "repro", "--quiet", *RAW], cwd=directory, env=environment(), check=True)
    folder = directory.with_name("torchvision") / "flowers-102"
    with tarfile.open(directory / "data/raw/102flowers.tgz") as archive:
        archive.extractall(folder, filter="data")
    for name in ("imagelabels.mat", "setid.mat"):
        shutil.copy(directory / "data/raw" / name, folder)
    return folder.parent


def drawn(directory: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Draw the raw files that ``changes`` describe, tile the pictures; returns ``changes`` that download them.

    The statistics of the backbone's BatchNorm layers are taken anew from every EVERY-th picture: those of ImageNet suit
    photographs of flowers, those of the small squares on which this backbone was pretrained would not suit the tiles,
    and a script whose frozen BatchNorm layers move would learn what a pipeline whose do not cannot.
    """
    update(directory, changes)
    subprocess.run([*DVC, "repro", "--quiet", *RAW], cwd=directory, env=environment(), check=True)
    raw, views = directory / "data" / "raw", []
    with tarfile.open(raw / "102flowers.tgz") as small, tarfile.open(raw / "large.tgz", "w:gz") as large:
        for number, member in enumerate(small):
            image = np.asarray(Image.open(cast(IO[bytes], small.extractfile(member))))
            tiles = Image.fromarray(np.tile(image, (TILES, TILES, 1)))
            if number % EVERY == 0:
                views.append(EVAL(tiles))
            content = io.BytesIO()
            tiles.save(content, "JPEG", quality=90)
            member.size = content.tell()
            content.seek(0)
            large.addfile(member, content)
    backbone = pretrained_network("resnet18", read_backbone(raw / "backbone.pth"))
    update_bn(torch.stack(views).split(BATCH), backbone)
    torch.save(backbone.state_dict(), raw / "adapted.pth")
    names = {"archive": "large.tgz", "labels": "imagelabels.mat", "splits": "setid.mat", "backbone": "adapted.pth"}
    files = {
        key: {"url": str(raw / name), "checksum": f"md5:{hex_digest(raw / name, 'md5')}"} for key, name in names.items()
    }
    return changes | {"source": "download", "download": {"backbone": files.pop("backbone"), "flowers": files}}


def warm_up(modules: str) -> None:
    """Have the system read a contender's imports, which it may have dropped while the one before was running."""
    imports = f"import {modules}, torch._dynamo"  # which torch.optim imports when an optimizer is made
    subprocess.run([sys.executable, "-c", imports], cwd=PROJECT, check=True)


def profile(project: Path, start: float) -> dict[str, float]:
    """Seconds from the end of one stage to the end of the next, so DVC's own work counts towards the stage after it."""
    ends = sorted((record.stat().st_mtime, record.stem) for record in project.glob("environment/*.json"))
    times = [(start, ""), *((end, stage) for end, stage in ends if end > start)]
    return {stage: end - begin for (begin, _), (end, stage) in pairwise(times)}


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
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    changes = {} if options.full else yaml.safe_load(Path(__file__).with_name("reduced.yaml").read_text())
    scripts = {"script": "benchmarks.script"}
    if options.peers:
        scripts |= {"fastai": "benchmarks.fastai_script", "timm": "benchmarks.timm_script"}

    costs: dict[str, list[Cost]] = {name: [] for name in (*scripts, "pipeline")}
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary) / "base"
        root = set_up(base, changes)
        params = load_params(base / "params.yaml")
        arguments = [root, base / "data/raw/backbone.pth", params.dataset.classes, params.train.epochs]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            for name, module in scripts.items():
                warm_up(module)
                costs[name].append(measure([sys.executable, "-m", module, *map(str, arguments)], PROJECT))
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
        print(report(costs, results, params.dataset.test))
        print(
            "\nwhere the pipeline's time goes, s: " + ", ".join(f"{name} {took:.0f}" for name, took in stages.items())
        )
        iterating(project)


if __name__ == "__main__":
    with for_people():
        main()
