"""Both approaches on one's own images, in the folder own/.

Usage: python -m tools.own IMAGES [BACKBONE] [--effort quick|article|strong]

IMAGES is a folder, zip or tar file of images, or a table of labels beside them. BACKBONE is a file
of ImageNet weights, in place of the download. Says before it starts what the run will need, and at
the end which approach to use, how sure that is, and what to do next.
"""

import argparse
import csv
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError, for_people, listed
from pipeline.data.tables import read_json
from pipeline.figures.style import label
from pipeline.params import load_params, read_yaml
from pipeline.sources.files import images_below
from pipeline.sources.table import SUFFIXES as TABLES
from tools.commands import run
from tools.estimate import survey
from tools.links import without_links
from tools.merge import layer
from tools.reproduce import activation, reproduce_sandbox
from tools.sandbox import PROJECT, update

OWN = PROJECT / "own"
# What each effort changes in params.yaml, besides what one's own images change.
EFFORTS = {"quick": "tools/quick.yaml", "article": None, "strong": "tools/strong.yaml"}
FEWEST, MOST = 3, 60  # epochs of EFFORT=quick
Rows = Sequence[Mapping[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.own", description="see tools/own.py")
    parser.add_argument("images", nargs="?", default="")
    parser.add_argument("backbone", nargs="?", default="")
    parser.add_argument("--effort", default="")
    arguments = parser.parse_args()
    if not arguments.images:
        raise UserError(
            "name your images: make own IMAGES=path/to/folder "
            "(and, without a network, BACKBONE=file)"
        )
    effort = arguments.effort or "article"
    if effort not in EFFORTS:
        raise UserError(f"EFFORT={effort}: it can be {', '.join(EFFORTS)}")
    place = prepare(arguments, effort)
    print(f"effort:  {effort} (EFFORT can be {', '.join(EFFORTS)})", flush=True)
    if code := run(PROJECT, sys.executable, "-m", "tools.estimate", str(OWN)).returncode:
        return code
    before = splits_of(OWN)
    if code := reproduce_sandbox(OWN):
        if not arguments.backbone:
            print(
                "If the backbone could not be downloaded: "
                "make own IMAGES=… BACKBONE=file of ImageNet weights of a ResNet18"
            )
        return code
    for line in [*moves(before, splits_of(OWN)), *findings(OWN), *next_commands(OWN, place)]:
        print(line)
    return 0


def prepare(arguments: argparse.Namespace, effort: str = "article") -> Path:
    """Bring own/ up to date for the images, and perhaps the backbone, that somebody named.

    Args:
        effort: a key of ``EFFORTS``.

    Returns:
        The folder or archive of the images.

    Raises:
        UserError: something named is not there, or params.yaml of own/ does not hold.
    """
    images = followable(existing(arguments.images))
    backbone = existing(arguments.backbone) if arguments.backbone else None
    changes = changes_for(images, backbone)
    place = Path(changes["images"]["path"])
    changes = layer(changes, changes_of(effort, place))
    demanded = [f"images.{key}" for key in changes["images"]]
    demanded += ["backbone.path"] if backbone else []
    update(OWN, changes, images=place, demanded=demanded)
    load_params(OWN / "params.yaml")
    return place


def changes_of(effort: str, place: Path) -> dict[str, Any]:
    """What an effort changes in params.yaml.

    Args:
        place: folder or archive of the images.
    """
    file = EFFORTS[effort]
    changes = dict(read_yaml(PROJECT / file)) if file else {}
    if effort != "quick":
        return changes
    split = load_params(PROJECT / "params.yaml").images.split
    train = survey(place).counts(split).train
    return layer(changes, {"train": {"epochs": quick_epochs(train), "keep": "best"}})


def quick_epochs(train: float) -> int:
    """Epochs in which training images are seen as often, in all, as the article's: 15 of 1,020.

    So few images are seen often enough, and many do not take long; from ``FEWEST`` to ``MOST``.
    """
    return min(MOST, max(FEWEST, round(15 * 1020 / max(1, train))))


def existing(argument: str) -> Path:
    """The path that somebody named, absolute.

    Raises:
        UserError: there is none.
    """
    path = Path(argument).expanduser().resolve()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    return path


def followable(images: Path) -> Path:
    """The images, or a folder in own/ with the same files where DVC cannot follow links in it."""
    refuse_around_project(images)
    copy = OWN / "downloads" / "images"
    if images.is_file() and images.suffix.lower() in TABLES:
        refuse_around_project(images.parent)
        return without_links(images.parent, copy) / images.name
    return without_links(images, copy)


def refuse_around_project(folder: Path) -> None:
    """Refuse images among which this project lies, for it would be copied with them."""
    if PROJECT.is_relative_to(folder):
        raise UserError(
            f"{folder}: this project lies in it; put the images into a folder of their own"
        )


def changes_for(images: Path, backbone: Path | None = None) -> dict[str, Any]:
    """What one's own images change in params.yaml, for :func:`tools.merge.merge`.

    Args:
        images: a folder, a zip or tar file, or a table of labels beside its images.
        backbone: a file of ImageNet weights; None to download them.

    Raises:
        UserError: the project lies in the folder of the images.
    """
    section = {"source": "folder", "path": str(images)}
    if images.is_file() and images.suffix.lower() in TABLES:
        section |= {"path": str(images.parent), "table": images.name}
    refuse_around_project(Path(str(section["path"])))
    params = read_yaml(PROJECT / "params.yaml")
    not_needed = [name for name in params["download"] if name != "backbone" or backbone]
    changes: dict[str, Any] = {
        "download": dict.fromkeys(not_needed),
        "draw": {"images": None},
        "images": section,
        "published": dict.fromkeys(params["published"]),
        "dataset": {"name": name_of(images), "url": "", "license": "unknown", "terms": ""},
    }
    if backbone:
        changes["backbone"] = {"path": str(backbone)}
    return changes


def name_of(images: Path) -> str:
    """What the images are called where nobody has said: the name of their folder or file."""
    return (images.name if images.is_dir() else images.name.partition(".")[0]) or images.name


# What came out.


def splits_of(sandbox: Path) -> dict[str, str]:
    """The split of each image of the last run, by its name; empty before the first run."""
    path = sandbox / "data" / "raw" / "index.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["member"]: row["split"] for row in csv.DictReader(file)}


def moves(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What is new, gone, or in another split since the last run, on one line; none if nothing is.

    Args:
        before, after: the split of each image, by its name.
    """
    if not before or before == after:
        return []
    moved = [
        f"{name} ({before[name]} to {after[name]})"
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]
    new, gone = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    words = f"Since the last run: {new:,} images are new, {gone:,} are gone"
    if moved:
        words += f", {len(moved):,} are in another split: {listed(moved)}"
    return [f"{words}."]


def findings(sandbox: Path) -> list[str]:
    """Which approach to use, how sure that is, and which images are not in it, a line each."""
    report = read_report(sandbox)
    chosen = report["recommended"]
    lines = reasons(chosen, report["approaches"], report["differences"])
    name = sandbox.name
    if count := rows_of(sandbox / "report" / "left_out.csv"):
        lines.append(f"Left out: {count:,} files; {name}/report/left_out.csv says which, and why.")
    if count := rows_of(sandbox / "unlabelled" / f"{chosen}.csv"):
        lines.append(
            f"Without a class: {count:,} images; {name}/report/unlabelled.csv has predictions."
        )
    return lines


def read_report(sandbox: Path) -> dict[str, Any]:
    """The comparison, as the stage report wrote it."""
    return dict(read_json(sandbox / "report" / "comparison.json"))


def reasons(name: str, approaches: Rows, differences: Rows) -> list[str]:
    """Sentences that say why to use the approach ``name``, and how sure that is.

    Args:
        approaches, differences: of report/comparison.json, as is the recommended ``name``.
    """
    ranked = sorted(approaches, key=lambda row: row["trainable"])
    least = ranked[0]["approach"]
    chosen = next(row for row in ranked if row["approach"] == name)
    images = f"{chosen['n_test']:,} test images"
    against = {
        row["approach"]: difference_of(differences, least, row["approach"]) for row in ranked[1:]
    }
    if name != least:
        first = (
            f"Use {label(name)}: on {images} it is better than {label(least)} "
            f"({points(against[name])})."
        )
    elif against:
        best = max(against, key=lambda other: against[other][0])
        first = (
            f"Use {label(name)}, the smallest change: {images} cannot show that another approach "
            f"is better ({label(best)}: {points(against[best])})."
        )
    else:
        first = f"Use {label(name)}: no other approach was run (EFFORT=article runs two)."
    second = (
        f"Its accuracy on {images}: {chosen['test_accuracy']:.1%} (95 % interval "
        f"{chosen['test_accuracy_low']:.1%} to {chosen['test_accuracy_high']:.1%})."
    )
    return [first, second]


Difference = tuple[float, float, float]  # accuracy, and its 95 % interval


def difference_of(differences: Rows, first: str, second: str) -> Difference:
    """How much better ``second`` is than ``first``."""
    for found in differences:
        values = (found["difference"], found["low"], found["high"])
        if (found["first"], found["second"]) == (first, second):
            return values
        if (found["first"], found["second"]) == (second, first):
            return (-values[0], -values[2], -values[1])
    raise UserError(f"report/comparison.json: has no difference of {first} and {second}")


def points(difference: Difference) -> str:
    """A difference for people."""
    found, low, high = difference
    return f"{100 * found:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}"


def rows_of(path: Path) -> int:
    """Rows of a table below its head; 0 if there is no such file."""
    if not path.exists():
        return 0
    with path.open(encoding="utf-8", newline="") as file:
        return max(0, sum(1 for _ in csv.reader(file)) - 1)


# What to do next.


def next_commands(sandbox: Path, images: Path) -> list[str]:
    """Commands to paste into a shell in the project's folder: predict, look, change and compare."""
    chosen = read_report(sandbox)["recommended"]
    epochs = load_params(sandbox / "params.yaml").train.epochs
    name = shlex.quote(os.path.relpath(sandbox, PROJECT))
    model = f"{name}/models/{chosen}.safetensors"
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    return [
        "",
        "Next, in this folder:",
        *(f"    {command}" for command in activation()),
        f"    python -m pipeline.predict {model} {shlex.quote(str(a_photo(sandbox, images)))}",
        f"    {opener} {name}/report/index.html",
        f"    (cd {name} && dvc exp run -S train.epochs={2 * epochs} && dvc metrics diff)",
    ]


def a_photo(sandbox: Path, images: Path) -> Path:
    """One of the images, or, if they are in an archive, one that the report shows."""
    if images.is_dir():
        for place in images_below(images):
            if str(place).isprintable():  # so, on one line
                return place
    shown = sorted((sandbox / "report" / "gradcam").glob("*.jpg"))
    return shown[0].relative_to(PROJECT) if shown else Path("photo.jpg")


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
