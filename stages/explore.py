"""What the data look like, and what the backbone makes of them before any training."""

from pathlib import Path

import numpy as np
import torch

from pipeline.base.files import atomic
from pipeline.compute.device import set_precision, setup_torch
from pipeline.data.raw import SPLITS, read_classes, read_index
from pipeline.data.tables import write_csv, write_json
from pipeline.data.views import EVALUATION
from pipeline.explore.alike import identical, most_alike, pixels_digest
from pipeline.explore.summary import dataset_summary
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
PAIRS = 100  # most alike images of train and test
OUTS = ["dataset.json", "samples.png", "top5.csv", "top5.png", "alike.csv"]


def main(params: Params) -> None:
    device = setup_torch(params.runtime.device, params.threads)
    backbone = params.backbone
    index = read_index(RAW)
    classes = read_classes(RAW)
    files = index.set_index("id")["member"]
    recipe = Approach(learning_rates={"head": 1.0}, initial="backbone").recipe(params.train)
    preprocessing = preprocessing_of(params, recipe)
    views = {split: open_views(split, preprocessing, params.runtime, device) for split in SPLITS}
    train = views["train"].pixels
    test = views["test"].pixels

    # The data.
    pixels = [views[split].pixels for split in SPLITS]
    places = files + " (" + index.set_index("id")["split"] + ")"
    summary = dataset_summary(index, classes) | {
        "identical_images": [[places[image_id] for image_id in ids] for ids in identical(pixels)],
        "pixels_sha256": {split: pixels_digest(views[split].pixels) for split in SPLITS},
    }
    rows = samples.sample_rows(train.split.labels, SAMPLES)
    names = [classes[label] for label in train.split.labels[rows]]
    grid = samples.sample_grid(train.central(rows), names)

    # The backbone's own classes for the first training image.
    network = pretrained_network(backbone.network, read_backbone(Path(backbone.path))).to(device)
    dry_run(network.requires_grad_(False), recipe.crop, "backbone.network")
    views["train"].prepare()
    with torch.inference_mode():
        first = network(views["train"].batch(np.array([0]), EVALUATION))[0].cpu()
    top5 = top_classes(first, category_names(backbone.network, len(first)))
    title = f"first training image: {classes[train.split.labels[0]]}"

    # Images of train and test that are alike to the backbone: of one object, perhaps.
    others = trained_by_others(params, recipe, network)
    frozen = frozen_beginning(network, [head_name(network)], others, recipe, device)
    cache = open_cache(params.runtime)
    to_head = frozen_place(network, [head_name(network)])
    assert to_head is not None  # a value goes into the head
    rest = fuse_frozen(section(network, frozen.end, to_head.position)).to(device)
    rest = set_precision(rest, recipe.precision, device)
    features = {
        split: logits(rest, Inputs(views[split], frozen.parts, cache), split)
        for split in ("train", "test")
    }
    alike = most_alike(features["train"], features["test"], PAIRS)
    alike["same_class"] = train.split.labels[alike["train"]] == test.split.labels[alike["test"]]
    alike["train"] = files[train.split.ids[alike["train"]]].to_numpy()
    alike["test"] = files[test.split.ids[alike["test"]]].to_numpy()

    with atomic(*(REPORT / out for out in OUTS)) as paths:
        write_json(paths[0], summary)
        save(grid, paths[1], params.plots.dpi)
        write_csv(paths[2], top5)
        save(samples.top_classes(train.central([0])[0], title, top5), paths[3], params.plots.dpi)
        write_csv(paths[4], alike[["train", "test", "cosine", "same_class"]])
    print(title, top5.to_string(index=False), sep="\n")
    print("most alike images of train and test:", alike.head(5).to_string(index=False), sep="\n")
