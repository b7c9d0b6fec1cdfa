"""The three files of Oxford Flowers-102: pictures in an archive, labels and splits in MATLAB files."""

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from pipeline.runtime import UserError

# Their names in setid.mat. (Some papers swap train and test; we do as the authors' file says.)
VARIABLES = {"train": "trnid", "val": "valid", "test": "tstid"}


def read_splits(labels_file: Path, splits_file: Path) -> dict[str, pd.DataFrame]:
    """Which pictures belong to which split, and what they show.

    Returns:
        For ``train``, ``val`` and ``test`` a table with int64 columns ``id`` (number in the picture's file name,
        from 1) and ``label`` (class, 0..classes-1; the file counts from 1), in the order of ``setid.mat``.

    Raises:
        UserError: not the expected MATLAB files.
    """
    labels = _read_mat(labels_file, ["labels"])["labels"]
    splits = _read_mat(splits_file, list(VARIABLES.values()))
    tables = {}
    for split, variable in VARIABLES.items():
        ids = splits[variable]
        if ids.min() < 1 or ids.max() > len(labels):
            raise UserError(f"{splits_file}: {variable} names pictures outside 1..{len(labels)} of {labels_file}")
        tables[split] = pd.DataFrame({"id": ids, "label": labels[ids - 1] - 1})
    return tables


def check_splits(tables: dict[str, pd.DataFrame], classes: int, sizes: dict[str, int]) -> None:
    """Hold the splits against what the params promise.

    Raises:
        UserError: a split has another size, a picture is in two splits or twice in one, the labels are not
            exactly 0..classes-1, or train or val is not balanced.
    """
    for split, table in tables.items():
        if len(table) != sizes[split]:
            raise UserError(f"setid.mat: {len(table):,} {split} pictures, but dataset.{split} = {sizes[split]}")
        counts = np.bincount(table["label"], minlength=classes)
        if len(counts) != classes or (counts == 0).any():
            raise UserError(
                f"imagelabels.mat: the {split} pictures show {(counts > 0).sum()} classes with labels "
                f"{table['label'].min()}..{table['label'].max()}, but dataset.classes = {classes}"
            )
        if split != "test" and counts.min() != counts.max():
            raise UserError(f"imagelabels.mat: {counts.min()} to {counts.max()} {split} pictures a class; not balanced")
    ids = pd.concat(tables.values())["id"]
    if ids.duplicated().any():
        raise UserError(f"setid.mat: picture {ids[ids.duplicated()].iloc[0]} stands twice in train, val and test")


def read_archive(archive: Path, wanted: set[int]) -> Iterator[tuple[int, str, bytes]]:
    """Stream the wanted pictures out of the archive, in its order, without unpacking it to disk.

    Yields:
        id, where it came from (for messages), the JPEG's bytes.

    Raises:
        UserError: not a readable .tgz, or (at its end) a wanted picture was not in it.
    """
    missing = set(wanted)
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                stem = Path(member.name).stem
                if member.isfile() and stem.startswith("image_") and int(stem[6:]) in missing:
                    file = tar.extractfile(member)
                    assert file is not None
                    missing.remove(int(stem[6:]))
                    yield int(stem[6:]), f"{archive}, {member.name}", file.read()
                tar.members = []  # type: ignore[attr-defined]  # else tarfile remembers all, however many
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{archive}: cannot be read as .tgz ({error}); delete it and run again") from None
    if missing:
        raise UserError(
            f"{archive}: holds {len(wanted) - len(missing):,} of the {len(wanted):,} pictures that setid.mat names "
            f"(image_{min(missing):05d}.jpg is missing); download it again"
        )


def class_names(kind: str, classes: int) -> list[str]:
    """English names of the classes in label order: ``flowers102`` (from torchvision) or ``numbered``."""
    if kind == "numbered":
        return [f"species {number + 1}" for number in range(classes)]
    from pipeline.vision import Flowers102  # imports torch, which prepare does not need otherwise

    if len(Flowers102.classes) != classes:
        raise UserError(
            f"params.yaml: dataset.class_names = flowers102 has {len(Flowers102.classes)} names, "
            f"but dataset.classes = {classes}; say numbered"
        )
    return list(Flowers102.classes)


def _read_mat(path: Path, variables: list[str]) -> dict[str, np.ndarray]:
    """The named vectors of a MATLAB file, as int64 arrays of one dimension."""
    try:
        content = scipy.io.loadmat(path, variable_names=variables)
        return {name: content[name].ravel().astype(np.int64) for name in variables}
    except (OSError, ValueError, TypeError, LookupError, zlib.error) as error:
        raise UserError(f"{path}: not the expected MATLAB file with {', '.join(variables)} ({error})") from None
