"""What the data look like, and what the backbone makes of them before any training."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.base.files import atomic
from pipeline.base.parallel import cpu_workers
from pipeline.compute.device import set_precision, setup_torch
from pipeline.data.raw import SPLITS, read_classes, read_index
from pipeline.data.tables import write_csv, write_json
from pipeline.data.views import EVALUATION
from pipeline.explore.alike import find_alike, identical
from pipeline.explore.labels import find_suspects
from pipeline.explore.odd import find_odd
from pipeline.explore.summary import class_counts, dataset_summary, image_table, size_summary
from pipeline.explore.survey import survey
from pipeline.figures import samples
from pipeline.figures.style import save
from pipeline.models.freezing import frozen_place, fuse_frozen, section
from pipeline.models.frozen import Inputs, frozen_beginning, logits
from pipeline.models.networks import (
    category_names,
    dry_run,
    head_name,
    pretrained_network,
    read_backbone,
)
from pipeline.params import Approach, Params
from pipeline.training.evaluation import top_classes
from stages._inputs import RAW, open_cache, open_views, preprocessing_of, trained_by_others

REPORT = Path("report")
SAMPLES = 18  # images in the grid
OUTS = [
    "dataset.json",
    "counts.csv",
    "samples.png",
    "top5.csv",
    "top5.png",
    "alike.csv",
    "suspects.csv",
    "odd.csv",
]


def main(params: Params) -> None:
    device = setup_torch(params.runtime.device, params.threads)
    backbone = params.backbone
    index = read_index(RAW)
    classes = read_classes(RAW)
    recipe = Approach(learning_rates={"head": 1.0}, initial="backbone").recipe(params.train)
    preprocessing = preprocessing_of(params, recipe)
    views = {split: open_views(split, preprocessing, params.runtime, device) for split in SPLITS}
    train = views["train"].pixels

    # The data. All splits are in one row: train, val, test.
    workers = cpu_workers(params.runtime.workers)
    surveys = {split: survey(views[split].pixels, workers) for split in SPLITS}
    measures = pd.concat([surveys[split].measures for split in SPLITS], ignore_index=True)
    squares = [square for split in SPLITS for square in surveys[split].squares]
    images = image_table(index, classes)
    places = images["file"] + " (" + images["split"] + ")"
    copies = [places[group].tolist() for group in identical(squares)]
    rows = samples.sample_rows(train.split.labels, SAMPLES)
    names = [classes[label] for label in train.split.labels[rows]]
    grid = samples.sample_grid(train.central(rows), names)

    # The backbone's own classes for the first training image.
    network = pretrained_network(backbone.network, read_backbone(Path(backbone.path))).to(device)
    dry_run(network.requires_grad_(False), recipe.crop, "backbone.network", "train.crop")
    views["train"].prepare()
    with torch.inference_mode():
        first = network(views["train"].batch(np.array([0]), EVALUATION))[0].cpu()
    top5 = top_classes(first, category_names(backbone.network, len(first)))
    title = f"first training image: {classes[train.split.labels[0]]}"

    # What goes into the head, of all images; and what it says of them.
    others = trained_by_others(params, recipe, network)
    frozen = frozen_beginning(network, [head_name(network)], others, recipe, device)
    cache = open_cache(params.runtime)
    to_head = frozen_place(network, [head_name(network)])
    assert to_head is not None  # a value goes into the head
    rest = fuse_frozen(section(network, frozen.end, to_head.position)).to(device)
    rest = set_precision(rest, recipe.precision, device)
    features = torch.cat(
        [logits(rest, Inputs(views[split], frozen.parts, cache), split) for split in SPLITS]
    )
    alike = find_alike(images, features, squares)
    suspects = find_suspects(images, features, classes)
    odd = find_odd(images, measures, alike.distance)

    summary = dataset_summary(index, classes) | {
        "sizes": size_summary(measures),
        "identical_images": copies,
        "near_duplicates": alike.counts,
        "pixels_sha256": {split: surveys[split].pixels_sha256 for split in SPLITS},
    }
    with atomic(*(REPORT / out for out in OUTS)) as paths:
        path = dict(zip(OUTS, paths, strict=True))
        write_json(path["dataset.json"], summary)
        write_csv(path["counts.csv"], class_counts(index, classes))
        save(grid, path["samples.png"], params.plots.dpi)
        write_csv(path["top5.csv"], top5)
        figure = samples.top_classes(train.central([0])[0], title, top5)
        save(figure, path["top5.png"], params.plots.dpi)
        write_csv(path["alike.csv"], alike.table)
        write_csv(path["suspects.csv"], suspects)
        write_csv(path["odd.csv"], odd)
    print(title, top5.to_string(index=False), sep="\n")
    print(f"labels to check: {len(suspects):,} (report/suspects.csv)")
    print(f"the same image more than once: {len(copies):,} groups (report/dataset.json)")
    across, within = alike.counts["across_splits"], alike.counts["within_splits"]
    print(f"near duplicates: {across:,} pairs across splits, {within:,} within (report/alike.csv)")
    print(f"unusual images: {len(odd):,} (report/odd.csv)")
