"""Time and memory of the stages against the number of images and of epochs. Usage: python -m benchmarks.scaling

Drawn images of 36 pixels, so that the pipeline's own costs show; splits in the proportions of Flowers-102. Writes
benchmarks/scaling.csv and scaling.png.
"""

import io
import tarfile
import tempfile
from pathlib import Path

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
from tools.sandbox import PROJECT, merge, update

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


def set_up(directory: Path, pool: list[bytes], images: int, epochs: int) -> None:
    """A sandbox with raw data of so many images, those of the pool over and over, and a backbone."""
    changes = yaml.safe_load((PROJECT / "tools" / "demo.yaml").read_text())
    changes |= {"transforms": {"resize": 36, "crop": 32}, "train": {"epochs": epochs}}
    update(directory, merge(changes, {"backbone": {"path": BACKBONE}}))
    numbers = np.arange(images)
    members = [f"jpg/image_{number:06d}.jpg" for number in numbers]
    archive = directory / "data" / "archive.tgz"
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for number, name in enumerate(members):
            member, content = tarfile.TarInfo(name), pool[number % len(pool)]
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    splits = np.repeat(SPLITS, [images // 8, images // 4 - images // 8, images - images // 4])
    index = pd.DataFrame({"member": members, "id": numbers, "split": splits, "label": numbers % SPECIES})
    write_raw(directory / "data" / "raw", archive, index, [f"species {label + 1}" for label in range(SPECIES)])
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), directory / BACKBONE)


def run(pool: list[bytes], images: int, epochs: int) -> pd.DataFrame:
    """One row a stage: images, epochs, stage, seconds (wall clock), mebibytes (largest process)."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "run"
        set_up(directory, pool, images, epochs)
        for stage, arguments in STAGES.items():
            done = measure(["python", "-m", "stages", *arguments], directory)
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


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "images.tar"
        drawn = DrawnImages(
            seed=1, species=SPECIES, train_per_species=100, val_per_species=1, test_per_species=1, size=36
        )
        index = write_images(archive, drawn, lambda items: items)
        ids = dict(zip(index["member"], index["id"], strict=True))
        pool = [content for _, _, content in read_archive(archive, ids)]
    cases = [(images, EPOCHS[0]) for images in IMAGES] + [(IMAGES[0], epochs) for epochs in EPOCHS[1:]]
    table = pd.concat([run(pool, *case) for case in cases])
    here = Path(__file__).parent
    table.to_csv(here / "scaling.csv", index=False, float_format="%.1f")
    plot(table, here / "scaling.png")
    print(table.to_string(index=False))


if __name__ == "__main__":
    with for_people():
        main()
