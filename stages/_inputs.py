"""What several stages open in the same way: the raw data, the cache, the views of a split."""

from functools import cache, partial
from pathlib import Path

import torch
from torch import nn

from pipeline.base.cache import GIGABYTE, Cache
from pipeline.base.errors import UserError
from pipeline.base.files import clone_of
from pipeline.base.parallel import cpu_workers
from pipeline.data.archive import Archive
from pipeline.data.images import Preprocessing
from pipeline.data.pixels import Pixels, Split, read_split
from pipeline.data.raw import ARCHIVE, read_index, read_unlabelled
from pipeline.data.views import Augmentation, Views
from pipeline.models.freezing import resolve_learning_rates
from pipeline.params import Params, Recipe, Runtime, Train

RAW = Path("data/raw")
UNLABELLED = "unlabelled"  # in place of a split: the images that are only predicted


def open_cache(runtime: Runtime) -> Cache:
    """The cache of the clone, also for experiments that run in a copy (dvc exp run --temp)."""
    return _only_cache(clone_of(Path.cwd()) / ".cache", int(runtime.cache * GIGABYTE))


@cache
def _only_cache(folder: Path, limit: int) -> Cache:
    """One for the whole process, for it must know all that its process uses."""
    return Cache(folder, limit)


@cache
def open_archive(folder: Path) -> Archive:
    """The images of the raw data in ``folder``, opened once for all splits."""
    members = [*read_index(folder)["member"], *read_unlabelled(folder)["member"]]
    return Archive(folder / ARCHIVE, members)


def read_images(split: str) -> Split:
    """The images of a split, or those without a class."""
    if split == UNLABELLED:
        table = read_unlabelled(RAW).assign(split=UNLABELLED, label=-1)
        return read_split(table, UNLABELLED)
    return read_split(read_index(RAW), split)


def open_views(
    split: str,
    preprocessing: Preprocessing,
    runtime: Runtime,
    device: torch.device,
    recipe: Train | None = None,
) -> Views:
    """The views of a split.

    Args:
        split: train, val, test, or ``UNLABELLED``.
        recipe: of training, with its random crops; None for evaluation.
    """
    images = read_images(split)
    workers = cpu_workers(runtime.workers)
    archive = partial(open_archive, RAW.absolute())
    pixels = Pixels(archive, images, preprocessing, open_cache(runtime), workers)
    if recipe is None:
        return Views(pixels, device)
    augmentation = Augmentation(recipe.seed, recipe.flip, recipe.training_side)
    return Views(pixels, device, augmentation)


def preprocessing_of(params: Params, recipe: Train) -> Preprocessing:
    """How an image becomes what the network sees, by params.yaml."""
    mean, std = params.backbone.mean, params.backbone.std
    return Preprocessing(recipe.resize, recipe.crop, mean, std, recipe.fit)


def trained_by_others(params: Params, recipe: Recipe, model: nn.Module) -> list[list[str]]:
    """The modules that the other approaches with the same views train, for what can be shared.

    They decide what the cache keeps, and change no result: so no stage declares them.
    """
    found = []
    for approach in params.approaches.values():
        other = approach.recipe(params.train)
        try:
            rates = resolve_learning_rates(model, other.learning_rates, "approaches")
        except UserError:  # is said where that approach is trained
            continue
        if other.initial == "backbone" and other.has_views_of(recipe):
            found.append(list(rates))
    return found
