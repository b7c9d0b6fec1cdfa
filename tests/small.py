"""A small network and a small data set, for tests of what trains and evaluates."""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.base.cache import Cache
from pipeline.compute.device import set_precision
from pipeline.data.archive import Archive
from pipeline.data.images import Preprocessing
from pipeline.data.pixels import Pixels, Split
from pipeline.data.views import Augmentation, Views
from pipeline.models.freezing import PartlyTrained, section
from pipeline.models.frozen import Inputs, frozen_beginning
from pipeline.params import Recipe
from pipeline.training.batches import limit_images_per_class, weights_of_classes
from pipeline.training.fit import Data
from tests.conftest import jpeg, write_archive

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(resize=20, crop=16, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.25])
AUGMENTATION = Augmentation(seed=0, flip=0.5, side=PREPROCESSING.crop)
CLASSES = 3
COUNTS = {"train": 21, "val": 12, "test": 9}  # images
HEAD = {"fc": 1e-2}
BLOCK_AND_HEAD = {"block2": 1e-3, "fc": 1e-2}


def small_network(seed: int = 0) -> nn.Module:
    """Two blocks and a head, in eval mode, as if trained: BatchNorm has statistics of its own.

    It ends as the networks of torchvision do: pooling, flattening, a linear layer (fc).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "block1": _block(3, 8, stride=2),
            "block2": _block(8, 8, stride=1),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(8, CLASSES),
        }
        network = nn.Sequential(OrderedDict(parts))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
                nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 2)
        nn.init.normal_(network.get_parameter("fc.weight"))
    return network.eval()


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def small_recipe(learning_rates: Mapping[str, float] = HEAD, **changes: Any) -> Recipe:
    """The recipe of a short training."""
    settings: dict[str, Any] = {
        "seed": 0,
        "images_per_class": "all",
        "initial": "backbone",
        "resize": PREPROCESSING.resize,
        "crop": PREPROCESSING.crop,
        "fit": PREPROCESSING.fit,
        "flip": AUGMENTATION.flip,
        "train_crop": None,
        "flip_averaging": False,
        "precision": "fp32",
        "epochs": 2,
        "batch_size": 8,
        "schedule": "constant",
        "warm_up": 0,
        "label_smoothing": 0.0,
        "class_weights": "none",
        "keep": "last",
        "learning_rates": dict(learning_rates),
    }
    return Recipe(**(settings | changes))


@dataclass(frozen=True)
class SmallData:
    """Images of three splits in an archive."""

    archive: Archive
    splits: dict[str, Split]

    def pixels(self, name: str, cache: Cache, fit: str = PREPROCESSING.fit) -> Pixels:
        preprocessing = replace(PREPROCESSING, fit=fit)
        return Pixels(lambda: self.archive, self.splits[name], preprocessing, cache, workers=2)

    def views(
        self,
        name: str,
        cache: Cache,
        augmentation: Augmentation | None = AUGMENTATION,
        fit: str = PREPROCESSING.fit,
    ) -> Views:
        return Views(self.pixels(name, cache, fit), CPU, augmentation)


def write_small_data(folder: Path, counts: Mapping[str, int] | None = None) -> SmallData:
    """Images of different sizes, upright and wide; those of a split are in no order of their ids.

    Args:
        counts: images of each split, if not ``COUNTS``.
    """
    encoded: dict[int, bytes] = {}
    splits: dict[str, Split] = {}
    for name, count in (counts or COUNTS).items():
        start = len(encoded)
        ids = np.random.default_rng(0).permutation(np.arange(start, start + count))
        encoded |= {image_id: jpeg(image_id, *_size(image_id)) for image_id in sorted(ids.tolist())}
        splits[name] = Split(
            name=name,
            members=[f"jpg/image_{image_id:05d}.jpg" for image_id in ids],
            ids=ids,
            labels=ids % CLASSES,
            digests=[hashlib.sha256(encoded[image_id]).hexdigest() for image_id in ids.tolist()],
        )
    archive = write_archive(folder / "images.tar", encoded)
    return SmallData(Archive(archive), splits)


@dataclass(frozen=True)
class Training:
    """What :func:`pipeline.training.fit.fit` takes, apart from the device."""

    network: PartlyTrained
    data: Data
    recipe: Recipe


def small_training(
    images: SmallData,
    recipe: Recipe,
    cache: Cache,
    others: Collection[Collection[str]] = (),
    model: nn.Module | None = None,
) -> Training:
    """A training before its first epoch, as the stage sets it up.

    Args:
        others: modules that other approaches train.
        model: in place of the small network.
    """
    network = PartlyTrained(model or small_network(), recipe.learning_rates)
    beginning = frozen_beginning(network.whole, recipe.learning_rates, others, recipe, CPU)
    rest = section(network.whole, beginning.end, None)
    network.trainable_part = set_precision(rest, recipe.precision, CPU)
    split = images.splits["train"]
    augmentation = Augmentation(recipe.seed, recipe.flip, recipe.training_side)
    rows = limit_images_per_class(split.ids, split.labels, recipe.images_per_class, recipe.seed)
    train = images.views("train", cache, augmentation, recipe.fit)
    val = images.views("val", cache, None, recipe.fit)
    data = Data(
        train=Inputs(train, beginning.parts, cache),
        val=Inputs(val, beginning.parts, cache),
        rows=rows,
        val_labels=images.splits["val"].labels,
        class_weights=weights_of_classes(recipe.class_weights, rows.labels, CLASSES),
    )
    return Training(network, data, recipe)


def _size(image_id: int) -> tuple[int, int]:
    """Width and height, pixels."""
    return (44 + image_id % 7, 30) if image_id % 3 else (30, 40 + image_id % 5)


def flip_bit(path: Path, place: int, bit: int = 0) -> None:
    """Change one bit of a file: of its byte ``place``, counted from the end if negative."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)
