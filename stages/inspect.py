"""Stage inspect: the data, and the backbone before any training. Usage: python -m stages.inspect"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline import plots
from pipeline.evaluate import top_classes
from pipeline.files import atomic, write_json
from pipeline.images import SPLITS, Split
from pipeline.inputs import normalise
from pipeline.model import category_names, pretrained_network, read_backbone
from pipeline.params import load_params
from pipeline.runtime import run_stage, torch_device

PIXELS, REPORT = Path("data/pixels"), Path("report")
SAMPLES = 18  # pictures in the grid


def main() -> None:
    params = load_params()
    device = torch_device(params.runtime.device, params.threads)
    transforms = params.transforms
    classes = pd.read_csv(PIXELS / "classes.csv")["name"]
    train = Split(PIXELS, "train")
    counts = {split: pd.read_csv(PIXELS / f"{split}.csv")["label"].value_counts() for split in SPLITS}
    dataset = {
        split: {
            "pictures": int(count.sum()),
            "fewest_of_a_class": int(count.min()),
            "most_of_a_class": int(count.max()),
        }
        for split, count in counts.items()
    }

    # The first picture of each class, over classes evenly spread.
    labels = np.linspace(0, len(classes) - 1, min(SAMPLES, len(classes))).round()
    rows = [int(np.flatnonzero(train.labels == label)[0]) for label in labels]
    grid = plots.sample_grid(train.central(rows, transforms.crop), [classes[train.labels[row]] for row in rows])

    network = pretrained_network(params.network, read_backbone(Path("data/raw/backbone.pth"))).to(device)
    first = train.central([0], transforms.crop)
    with torch.inference_mode():
        logits = network(normalise(first, transforms.mean, transforms.std, device))[0].cpu()
    top = top_classes(logits, category_names(params.network, len(logits)))
    title = f"first training picture: {classes[train.labels[0]]}"

    outs = ("dataset.json", "samples.png", "top5.csv", "top5.png")
    with atomic(*(REPORT / out for out in outs)) as paths:
        write_json(paths[0], {"classes": len(classes)} | dataset)
        plots.save(grid, paths[1], params.plots.dpi)
        top.to_csv(paths[2], index=False, lineterminator="\n", float_format="%.6f")
        plots.save(plots.top_classes(first[0], title, top), paths[3], params.plots.dpi)
    print(title, top.to_string(index=False), sep="\n")


if __name__ == "__main__":
    run_stage(main)
