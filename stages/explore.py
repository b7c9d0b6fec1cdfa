"""What the data look like, and what the backbone says of a flower before any training."""

from pathlib import Path

import torch

from pipeline.base.device import torch_device
from pipeline.base.files import atomic, write_csv, write_json
from pipeline.data.pixels import Split, identical
from pipeline.data.raw import SPLITS, read_classes, read_index
from pipeline.data.views import normalise
from pipeline.models.networks import category_names, check_runs, pretrained_network, read_backbone
from pipeline.params import Params
from pipeline.report import figures
from pipeline.report.analysis import dataset_summary, samples
from pipeline.report.style import save
from pipeline.training.evaluation import top_classes

REPORT, SAMPLES = Path("report"), 18  # images in the grid


def main(params: Params) -> None:
    device, crop = torch_device(params.runtime.device, params.threads), params.transforms.crop
    index, classes = read_index(Path("data/raw")), read_classes(Path("data/raw"))
    splits = [Split(Path("data/pixels"), split) for split in SPLITS]
    train, names = splits[0], index.set_index("id")["member"] + " (" + index.set_index("id")["split"] + ")"
    rows = samples(train.labels, SAMPLES)
    grid = figures.sample_grid(train.central(rows, crop), [classes[train.labels[row]] for row in rows])
    twins = [[names[number] for number in group] for group in identical(splits, crop)]

    state = read_backbone(Path(params.backbone.path))
    network = pretrained_network(params.backbone.network, state).to(device)
    check_runs(network.requires_grad_(False), crop, "backbone.network")
    first = train.central([0], crop)
    with torch.inference_mode():
        logits = network(normalise(first, params.transforms.mean, params.transforms.std, device))[0].cpu()
    top = top_classes(logits, category_names(params.backbone.network, len(logits)))
    title = f"first training image: {classes[train.labels[0]]}"

    with atomic(*(REPORT / out for out in ("dataset.json", "samples.png", "top5.csv", "top5.png"))) as paths:
        write_json(paths[0], dataset_summary(index, classes) | {"identical_images": twins})
        save(grid, paths[1], params.plots.dpi)
        write_csv(paths[2], top)
        save(figures.top_classes(first[0], title, top), paths[3], params.plots.dpi)
    print(title, top.to_string(index=False), sep="\n")
