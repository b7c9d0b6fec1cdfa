"""Oxford Flowers-102 (Nilsback & Zisserman, 2008): labels and splits of its images, from two MATLAB files."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io

from pipeline.base.errors import UserError

# Their names in setid.mat. (Some papers swap train and test; we do as the authors' file says.)
VARIABLES = {"train": "trnid", "val": "valid", "test": "tstid"}
SIZES, CLASSES = {"train": 1020, "val": 1020, "test": 6149}, 102  # of the official split


def read(settings: Mapping[str, Any], *_: Any) -> tuple[Path, pd.DataFrame, list[str]]:
    """The archive, its index and the names of the classes, as pipeline/data/raw.py defines them, after all checks."""
    from torchvision.datasets import Flowers102  # here, because it imports torch, and a test of the splits need not

    folder = Path(settings["path"])
    index = read_splits(folder / "imagelabels.mat", folder / "setid.mat")
    check_splits(index, CLASSES, SIZES)
    return folder / "102flowers.tgz", index, list(Flowers102.classes)


def read_splits(labels_file: Path, splits_file: Path) -> pd.DataFrame:
    """Which images belong to which split, and what they show.

    Returns:
        The rows of train, val and test, each in the order of ``setid.mat``: member, id (the number in the image's
        file name, from 1), split, label (0..classes-1; the file counts from 1).

    Raises:
        UserError: not the expected MATLAB files.
    """
    labels = _read_mat(labels_file, ["labels"])["labels"]
    splits = _read_mat(splits_file, list(VARIABLES.values()))
    tables = []
    for split, variable in VARIABLES.items():
        ids = splits[variable]
        if not len(ids) or ids.min() < 1 or ids.max() > len(labels):
            raise UserError(f"{splits_file}: {variable} must name images of 1..{len(labels)}, as {labels_file} has")
        members = [f"jpg/image_{number:05d}.jpg" for number in ids]
        tables.append(pd.DataFrame({"member": members, "id": ids, "split": split, "label": labels[ids - 1] - 1}))
    return pd.concat(tables, ignore_index=True)


def check_splits(index: pd.DataFrame, classes: int, sizes: dict[str, int]) -> None:
    """Hold the splits against what Flowers-102 promises.

    Raises:
        UserError: a split has another size, an image stands twice, the labels are not exactly 0..classes-1, or train
            or val is not balanced.
    """
    for split, size in sizes.items():
        labels = index.loc[index["split"] == split, "label"]
        counts = labels.value_counts()
        if len(labels) != size:
            raise UserError(f"setid.mat: {len(labels):,} {split} images in place of {size:,}")
        if sorted(counts.index) != list(range(classes)):
            raise UserError(
                f"imagelabels.mat: the {split} images show {len(counts)} classes with labels "
                f"{labels.min()}..{labels.max()}, in place of {classes}"
            )
        if split != "test" and counts.min() != counts.max():
            raise UserError(f"imagelabels.mat: {counts.min()} to {counts.max()} {split} images a class; not balanced")
    if (twice := index["id"].duplicated()).any():
        raise UserError(f"setid.mat: image {index['id'][twice].iloc[0]} stands twice in train, val and test")


def _read_mat(path: Path, variables: list[str]) -> dict[str, np.ndarray]:
    """The named vectors of a MATLAB file, as int64 arrays of one dimension."""
    try:
        content = scipy.io.loadmat(path, variable_names=variables)
        return {name: content[name].ravel().astype(np.int64) for name in variables}
    except (OSError, ValueError, TypeError, LookupError, zlib.error) as error:
        raise UserError(f"{path}: not the expected MATLAB file with {', '.join(variables)} ({error})") from None
