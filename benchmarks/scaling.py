"""Time and memory of the stages against the number of pictures and of epochs. Usage: python -m benchmarks.scaling

Drawn pictures of 36 pixels, so that the pipeline's own costs show; splits in the proportions of Flowers-102. Writes
benchmarks/scaling.csv and scaling.png.
"""

import io
import tarfile
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.io
import torch
import yaml
from pipeline.flowers102 import read_archive
from pipeline.runtime import for_people
from pipeline.synthetic import write_flowers
from torchvision.models import resnet18

from benchmarks.measure import measure
from pipeline.params import SyntheticFlowers
from tools.sandbox import PROJECT, merge, update

PICTURES, EPOCHS = (6_400, 25_600, 102_400), (1, 4, 8)
SPECIES = 4
STAGES = {
    "prepare": ["prepare"],
    "features": ["features", "layer3", "pixels"],
    "pooled features": ["features", "avgpool", "layer3"],
    "train, feature extraction": ["train", "feature_extraction"],
    "train, fine-tuning": ["train", "fine_tuning"],
    "evaluate, fine-tuning": ["evaluate", "fine_tuning"],
}


def write_raw(folder: Path, pool: list[bytes], pictures: int) -> dict[str, int]:
    """The raw files of a data set of so many pictures, drawn ones over and over; returns the sizes of its splits."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "102flowers.tgz", "w:gz", compresslevel=1) as archive:
        for number in range(pictures):
            member = tarfile.TarInfo(f"jpg/image_{number + 1:05d}.jpg")
            content = pool[number % len(pool)]
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    ids = np.arange(1, pictures + 1)
    ends = [pictures // 8, pictures // 4]
    parts = dict(zip(("trnid", "valid", "tstid"), np.split(ids, ends), strict=True))
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": 1 + ids % SPECIES})
    scipy.io.savemat(folder / "setid.mat", parts)
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), folder / "backbone.pth")
    return {"train": ends[0], "val": ends[1] - ends[0], "test": pictures - ends[1]}


def run(pool: list[bytes], pictures: int, epochs: int) -> pd.DataFrame:
    """One row a stage: pictures, epochs, stage, seconds (wall clock), mebibytes (largest process)."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "run"
        sizes = write_raw(directory / "data" / "raw", pool, pictures)
        changes = yaml.safe_load((PROJECT / "tools" / "demo.yaml").read_text())
        changes |= {"transforms": {"resize": 36, "crop": 32}, "train": {"epochs": epochs}}
        update(directory, merge(changes, {"dataset": {"classes": SPECIES} | sizes}))
        for stage, arguments in STAGES.items():
            done = measure(["python", "-m", f"stages.{arguments[0]}", *arguments[1:]], directory)
            rows.append((pictures, epochs, stage, done.wall, done.memory))
    return pd.DataFrame(rows, columns=["pictures", "epochs", "stage", "seconds", "mebibytes"])


def plot(table: pd.DataFrame, path: Path) -> None:
    """Seconds and memory against pictures, and seconds against epochs: straight lines are linear costs."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    by_pictures = table[table["epochs"] == EPOCHS[0]]
    by_epochs = table[table["pictures"] == PICTURES[0]]
    panels = (
        (by_pictures, "pictures", "seconds"),
        (by_pictures, "pictures", "mebibytes"),
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
        files = [Path(temporary) / name for name in ("archive.tgz", "labels.mat", "splits.mat")]
        drawn = SyntheticFlowers(
            seed=1, species=SPECIES, train_per_species=100, val_per_species=1, test_per_species=1, size=36
        )
        write_flowers(files[0], files[1], files[2], drawn, lambda items: items)
        count = SPECIES * 102
        pool = [content for _, _, content in read_archive(files[0], set(range(1, count + 1)))]
    cases = [(pictures, EPOCHS[0]) for pictures in PICTURES] + [(PICTURES[0], epochs) for epochs in EPOCHS[1:]]
    table = pd.concat([run(pool, *case) for case in cases])
    here = Path(__file__).parent
    table.to_csv(here / "scaling.csv", index=False, float_format="%.1f")
    plot(table, here / "scaling.png")
    print(table.to_string(index=False))


if __name__ == "__main__":
    with for_people():
        main()
