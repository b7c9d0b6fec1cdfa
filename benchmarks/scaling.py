"""Time and memory of the stages against the number of images and of epochs. Usage: python -m benchmarks.scaling [real]

Drawn images of 36 pixels, so that the pipeline's own costs show; splits in the proportions of Flowers-102. Writes
benchmarks/scaling.csv and scaling.png. With real: 102,400 images of 256 pixels, one epoch from pixels in bf16, in a
quarter of an hour and 20 GB of disk; writes benchmarks/scaling_real.csv.
"""

import io
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import yaml
from torchvision.models import resnet18

from benchmarks.measure import measure
from pipeline.base.errors import for_people
from pipeline.data.raw import SPLITS, read_archive, write_raw
from pipeline.sources.drawn import write_images
from pipeline.sources.params import DrawnImages
from tools.sandbox import PROJECT, update

IMAGES, EPOCHS = (6_400, 25_600, 102_400), (1, 4, 8)
SPECIES = 4
BACKBONE = "data/backbone.pth"
STAGES = {
    "prepare": ["prepare"],
    "features": ["features", "layer3"],
    "pooled features": ["features", "avgpool"],
    "train, feature extraction": ["train", "feature_extraction"],
    "train, fine-tuning": ["train", "fine_tuning"],
    "evaluate, fine-tuning": ["evaluate", "fine_tuning"],
}

SMALL: dict[str, Any] = {"transforms": {"resize": 36, "crop": 32}}
REAL: dict[str, Any] = {
    "transforms": {"resize": 256, "crop": 224},
    "precision": "bf16",
    "features": {"layer3": None, "avgpool": None},
    "alike": [],
    "approaches": {"feature_extraction": None, "random_features": None, "fine_tuning": {"input": "pixels"}},
}
REAL_STAGES = ("prepare", "train, fine-tuning", "evaluate, fine-tuning")


def set_up(directory: Path, pool: list[bytes], images: int, epochs: int, changes: dict[str, Any]) -> None:
    """A sandbox with raw data of so many images, those of the pool over and over, and a backbone."""
    demo = yaml.safe_load((PROJECT / "tools" / "demo.yaml").read_text())
    update(directory, demo | changes | {"train": {"epochs": epochs}, "backbone": {"path": BACKBONE}})
    numbers = np.arange(images)
    members = [f"jpg/image_{number:06d}.jpg" for number in numbers]
    archive = directory / "data" / "archive.tar"
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w") as tar:
        for number, name in enumerate(members):
            member, content = tarfile.TarInfo(name), pool[number % len(pool)]
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    splits = np.repeat(SPLITS, [images // 8, images // 4 - images // 8, images - images // 4])
    index = pd.DataFrame({"member": members, "id": numbers, "split": splits, "label": numbers % SPECIES})
    write_raw(directory / "data" / "raw", archive, index, [f"species {label + 1}" for label in range(SPECIES)])
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), directory / BACKBONE)


def run(pool: list[bytes], images: int, epochs: int, changes: dict[str, Any]) -> pd.DataFrame:
    """One row a stage: images, epochs, stage, seconds (wall clock), mebibytes (largest process)."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "run"
        set_up(directory, pool, images, epochs, changes)
        for stage in STAGES if changes is SMALL else REAL_STAGES:
            done = measure(["python", "-m", "stages", *STAGES[stage]], directory)
            rows.append((images, epochs, stage, done.wall, done.memory))
    return pd.DataFrame(rows, columns=["images", "epochs", "stage", "seconds", "mebibytes"])


def plot(table: pd.DataFrame, path: Path) -> None:
    """Seconds and memory against images, and seconds against epochs: straight lines are linear costs."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    by_images = table[table["epochs"] == EPOCHS[0]]
    by_epochs = table[table["images"] == IMAGES[0]]
    panels = (
        (by_images, "images", "seconds"),
        (by_images, "images", "mebibytes"),
        (by_epochs, "epochs", "seconds"),
    )
    for axis, (part, x, y) in zip(axes, panels, strict=True):
        for stage, rows in part.groupby("stage", sort=False):
            axis.plot(rows[x], rows[y], "o-", label=stage)
        axis.set(xlabel=x, ylabel=y, ylim=(0, None), xlim=(0, None))
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)


def pool_of(size: int) -> list[bytes]:
    """Encoded drawn images with a short side of ``size`` pixels."""
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "images.tar"
        drawn = DrawnImages(
            seed=1, species=SPECIES, train_per_species=100, val_per_species=1, test_per_species=1, size=size
        )
        index = write_images(archive, drawn, 2)
        ids = dict(zip(index["member"], index["id"], strict=True))
        return [content for _, _, content in read_archive(archive, ids)]


def main() -> None:
    here = Path(__file__).parent
    if sys.argv[1:] == ["real"]:
        table = run(pool_of(256), IMAGES[-1], 1, REAL)
        table.to_csv(here / "scaling_real.csv", index=False, float_format="%.1f")
    else:
        cases = [(images, EPOCHS[0]) for images in IMAGES] + [(IMAGES[0], epochs) for epochs in EPOCHS[1:]]
        pool = pool_of(36)
        table = pd.concat([run(pool, *case, SMALL) for case in cases])
        table.to_csv(here / "scaling.csv", index=False, float_format="%.1f")
        plot(table, here / "scaling.png")
    print(table.to_string(index=False))


if __name__ == "__main__":
    with for_people():
        main()
