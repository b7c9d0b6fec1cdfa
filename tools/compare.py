"""The demo of one revision beside that of another: what is better or worse, and what moved."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.utils.flatten import flatten

from pipeline.base.errors import UserError
from pipeline.data.tables import read_json
from pipeline.figures.style import label
from pipeline.params import read_yaml
from tools.commands import DVC, output, run
from tools.sandbox import PROJECT, commit

TOLERANCE = 0.02  # by which a test accuracy may fall: 12 of the demo's 600 test images


@dataclass(frozen=True)
class Demo:
    """The demo of a revision, after its run.

    Attributes:
        folder: where it ran.
        metrics: of metrics.json, flat.
        stages: of dvc.lock.
        curves: of curves.csv: columns approach, split, epoch, loss, accuracy.
    """

    folder: Path
    metrics: dict[str, float]
    stages: dict[str, Any]
    curves: pd.DataFrame


def run_demo(revision: str, place: Path) -> Demo:
    """Run the demo of a revision of this project.

    Args:
        place: a folder for a clone, which does not exist yet.

    Raises:
        UserError: it does not run.
    """
    output(PROJECT, "git", "clone", "--quiet", str(PROJECT), str(place))
    found = output(PROJECT, "git", "rev-parse", f"{revision}^{{commit}}").strip()
    output(place, "git", "checkout", "--quiet", found)
    folder = place / "demo"
    if not (folder / "params.yaml").exists():
        raise UserError(f"{revision} has no demo/params.yaml")
    if run(folder, *DVC, "repro").returncode:
        raise UserError(f"the demo of {revision} does not run here")
    commit(place, "results", by_nobody=True)  # for `dvc plots diff`
    metrics = read_json(folder / "metrics.json")
    return Demo(
        folder,
        {str(name): float(value) for name, value in flatten(metrics).items()},
        read_yaml(folder / "dvc.lock")["stages"],
        pd.read_csv(folder / "curves.csv"),
    )


def worse(base: Demo, head: Demo) -> list[str]:
    """The test accuracies that fell by more than the tolerance, a line each."""
    return [
        f"{name}: {base.metrics[name]:.1%}, now {head.metrics[name]:.1%}"
        for name in head.metrics
        if name.startswith("test.") and base.metrics.get(name, 0) - head.metrics[name] > TOLERANCE
    ]


def tables(base: Demo, head: Demo) -> str:
    """Metrics side by side, and which stages ran again or made other bytes, in Markdown."""
    lines = ["| metric | base | head | change |", "|---|---|---|---|"]
    for name, value in head.metrics.items():
        if name in base.metrics:
            before = base.metrics[name]
            lines.append(f"| {name} | {before:.4f} | {value:.4f} | {value - before:+.4f} |")
        else:
            lines.append(f"| {name} | | {value:.4f} | |")
    lines += [f"| {name} | gone | | |" for name in base.metrics if name not in head.metrics]
    lines += ["", *moved(base.stages, head.stages)]
    return "\n".join(lines)


def moved(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """Which stages a person who has the base's results would run again, and which outs differ."""
    again = [name for name, stage in head.items() if _causes(stage) != _causes(base.get(name, {}))]
    before = _outs(base)
    outs = [path for path, digest in _outs(head).items() if before.get(path) != digest]
    return [
        f"- stages that run again: {', '.join(again) or 'none'}",
        f"- outs with other bytes: {', '.join(outs) or 'none'}",
    ]


def _causes(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {key: stage.get(key) for key in ("cmd", "deps", "params")}


def _outs(stages: Mapping[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def charts(base: Demo, head: Demo) -> str:
    """Test accuracies and curves of validation accuracy as Mermaid charts, which GitHub draws."""
    names = [name.removeprefix("test.") for name in head.metrics if name.startswith("test.")]
    titles = ", ".join(f'"{label(name)}"' for name in names)
    bars = [[demo.metrics.get(f"test.{name}", 0) for name in names] for demo in (base, head)]
    parts = ["Test accuracy, base and head:", _chart(f"x-axis [{titles}]", "bar", bars)]
    for name in names:
        curves = [_val_accuracy(demo, name) for demo in (base, head)]
        axis = f'x-axis "epoch" 1 --> {max(map(len, curves))}'
        parts += [
            f"Validation accuracy of {label(name)}, base and head:",
            _chart(axis, "line", [curve for curve in curves if curve]),
        ]
    return "\n\n".join(parts)


def _val_accuracy(demo: Demo, name: str) -> list[float]:
    rows = demo.curves[(demo.curves["approach"] == name) & (demo.curves["split"] == "val")]
    return [float(value) for value in rows.sort_values("epoch")["accuracy"]]


def _chart(x_axis: str, kind: str, series: list[list[float]]) -> str:
    lines = [f"  {kind} [{', '.join(f'{value:.4f}' for value in values)}]" for values in series]
    body = "\n".join(["xychart-beta", f"  {x_axis}", '  y-axis "accuracy" 0 --> 1', *lines])
    return f"```mermaid\n{body}\n```"


def keep(base: Demo, head: Demo, place: Path) -> None:
    """Copy both reports, and what ``dvc plots diff`` makes of the two, to ``place``."""
    shutil.rmtree(place, ignore_errors=True)
    for name, demo in (("base", base), ("head", head)):
        shutil.copytree(demo.folder / "report", place / name)
    # DVC compares revisions of one repository, with their outs in its cache.
    cache = Path(".dvc") / "cache"
    shutil.copytree(base.folder / cache, head.folder / cache, dirs_exist_ok=True)
    output(head.folder, "git", "fetch", "--quiet", str(base.folder.parent), "HEAD")
    revision = output(head.folder, "git", "rev-parse", "FETCH_HEAD").strip()
    output(head.folder, *DVC, "plots", "diff", revision, "--out", str(place / "plots"))
