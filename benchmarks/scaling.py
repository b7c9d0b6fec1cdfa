"""Time and memory of the stages against the number of images and of epochs.

Usage: python -m benchmarks.scaling [real]

Drawn images of 36 pixels, so that the pipeline's own costs show; splits in the proportions of
Flowers-102. Writes benchmarks/scaling.csv and scaling.png. With real: 102,400 images of 256 pixels,
one epoch in bf16; needs 20 GB of disk, and writes benchmarks/scaling_real.csv.
"""

import hashlib
import io
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torchvision.models import resnet18

from benchmarks.measure import disk_usage, measure
from benchmarks.stage import device_memory
from pipeline.base.errors import for_people
from pipeline.data.archive import read_tar
from pipeline.data.raw import SPLITS, RawData, write_raw
from pipeline.figures.style import save
from pipeline.params import DrawnImages
from pipeline.sources.drawn import write_images
from tools.merge import layer
from tools.sandbox import update

HERE = Path(__file__).parent
SPECIES = 4
BACKBONE = "data/backbone.pth"


@dataclass(frozen=True)
class Stage:
    """A stage to measure, and the splits whose images it reads (train and val once an epoch)."""

    name: str
    arguments: list[str]
    splits: list[str]


EXPLORE = Stage("explore", ["explore"], ["train", "val", "test"])
FEATURE_EXTRACTION = Stage(
    "train, feature extraction", ["train", "feature_extraction"], ["train", "val"]
)
FINE_TUNING = Stage("train, fine-tuning", ["train", "fine_tuning"], ["train", "val"])
EVALUATE = Stage("evaluate, fine-tuning", ["evaluate", "fine_tuning"], ["val", "test"])


@dataclass(frozen=True)
class Case:
    """A run to measure.

    Attributes:
        changes: of params.yaml, on top of ``DRAWN``.
    """

    images: int
    epochs: int
    stages: list[Stage]
    changes: dict[str, Any]


STAGES = [EXPLORE, FEATURE_EXTRACTION, FINE_TUNING, EVALUATE]
DRAWN: dict[str, Any] = {
    "download": dict.fromkeys(("archive", "labels", "splits", "backbone")),
    "images": {"source": "indexed", "path": "data/drawn/images"},
    "published": dict.fromkeys(("feature_extraction", "fine_tuning")),
}
SMALL = {"train": {"resize": 36, "crop": 32}}
SMALL_CASES = [
    Case(6_400, 1, STAGES, SMALL),
    Case(25_600, 1, STAGES, SMALL),
    Case(102_400, 1, STAGES, SMALL),
    Case(6_400, 4, STAGES, SMALL),
    Case(6_400, 8, STAGES, SMALL),
]
REAL_CASE = Case(
    images=102_400,
    epochs=1,
    stages=[EXPLORE, FINE_TUNING, EVALUATE],
    changes={
        "train": {"resize": 256, "crop": 224, "precision": "bf16"},
        "approaches": {"feature_extraction": None},
    },
)


def set_up(directory: Path, pool: list[bytes], case: Case) -> dict[str, int]:
    """A sandbox with raw data, the images of the pool over and over, and a backbone.

    Returns:
        The number of images of each split.
    """
    own = {"train": {"epochs": case.epochs}, "backbone": {"path": BACKBONE}}
    update(directory, layer(layer(DRAWN, case.changes), own))
    numbers = np.arange(case.images)
    members = [f"jpg/image_{number:06d}.jpg" for number in numbers]
    archive = directory / "data" / "archive.tar"
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w") as tar:
        for number, name in enumerate(members):
            content = pool[number % len(pool)]
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    digests = [hashlib.sha256(content).hexdigest() for content in pool]
    train = case.images // 8
    val = case.images // 4 - train
    counts = dict(zip(SPLITS, [train, val, case.images - train - val], strict=True))
    index = pd.DataFrame(
        {
            "member": members,
            "id": numbers,
            "split": np.repeat(list(counts), list(counts.values())),
            "label": numbers % SPECIES,
            "sha256": [digests[number % len(pool)] for number in numbers],
        }
    )
    classes = [f"species {label + 1}" for label in range(SPECIES)]
    write_raw(directory / "data" / "raw", RawData(archive, index, classes))
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), directory / BACKBONE)
    return counts


def run(pool: list[bytes], case: Case) -> pd.DataFrame:
    """One row a stage.

    Returns:
        Columns images, epochs, stage, seconds (wall clock), per_second (images that it reads),
        mebibytes (largest process), on_device (mebibytes; empty without CUDA).
    """
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "run"
        counts = set_up(directory, pool, case)
        for stage in case.stages:
            command = [sys.executable, "-m", "benchmarks.stage", *stage.arguments]
            cost = measure(command, directory)
            passes = case.epochs if stage.arguments[0] == "train" else 1
            images = passes * sum(counts[split] for split in stage.splits)
            row = {
                "images": case.images,
                "epochs": case.epochs,
                "stage": stage.name,
                "seconds": cost.wall,
                "per_second": images / cost.wall,
                "mebibytes": cost.memory,
                "on_device": device_memory(cost.output),
            }
            rows.append(row)
        cache = disk_usage(directory / ".cache") / 1e9
        print(f"{case.images:,} images: {disk_usage(directory) / 1e9:.2f} GB, .cache {cache:.2f}")
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame, path: Path) -> None:
    """Seconds and memory against images, and seconds against epochs: straight lines are linear."""
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    by_images = table[table["epochs"] == table["epochs"].min()]
    by_epochs = table[table["images"] == table["images"].min()]
    panels = [
        (by_images, "images", "seconds"),
        (by_images, "images", "mebibytes"),
        (by_epochs, "epochs", "seconds"),
    ]
    every = figure.subplots(1, len(panels))
    for axes, (part, x, y) in zip(every, panels, strict=True):
        for stage, rows in part.groupby("stage", sort=False):
            axes.plot(rows[x], rows[y], "o-", label=stage)
        axes.set(xlabel=x, ylabel=y, ylim=(0, None), xlim=(0, None))
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(figure, path, dpi=120)


def draw_pool(size: int) -> list[bytes]:
    """Encoded drawn images with a short side of ``size`` pixels."""
    drawn = DrawnImages(
        seed=1,
        species=SPECIES,
        train_per_species=100,
        val_per_species=1,
        test_per_species=1,
        size=size,
    )
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "images.tar"
        write_images(archive, drawn, workers=2)
        entries = read_tar(archive, lambda name, head: True)
        return [entry.content for entry in entries if entry.content]


def main() -> None:
    if sys.argv[1:] == ["real"]:
        table = run(draw_pool(256), REAL_CASE)
        table.to_csv(HERE / "scaling_real.csv", index=False, float_format="%.1f")
    else:
        pool = draw_pool(36)
        table = pd.concat([run(pool, case) for case in SMALL_CASES])
        table.to_csv(HERE / "scaling.csv", index=False, float_format="%.1f")
        plot(table, HERE / "scaling.png")
    print(table.to_string(index=False))


if __name__ == "__main__":
    with for_people():
        main()
