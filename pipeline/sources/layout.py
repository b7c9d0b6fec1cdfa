"""What the folders around an image say of it: class, split, group.

Known are CLASS/IMAGE, SPLIT/CLASS/IMAGE and CLASS/SPLIT/IMAGE, with folders around or between them
that say nothing, and with further folders in a class.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.base.errors import UserError, listed
from pipeline.sources.files import composed

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "trainset": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "valset": "val",
    "dev": "val",
    "eval": "val",
    "test": "test",
    "testing": "test",
    "testset": "test",
    "tst": "test",
}
UNLABELLED_WORDS = {"unlabelled", "unlabeled", "pred", "predict", "prediction", "predictions"}
UNLABELLED = "unlabelled"  # in place of a split
# Words beside that of the split which say nothing.
FILLERS = {"data", "dataset", "folder", "image", "images", "img", "imgs", "labeled", "labelled"}
FILLERS |= {"photo", "photos", "pictures", "set", "split"}


@dataclass(frozen=True)
class Place:
    """What is said of an image.

    Attributes:
        label: name of its class; None if nothing says it, so that it can only be predicted.
        split: train, val or test; None if nothing says it.
        group: images of one group must be in one split; None if nothing says it.
    """

    label: str | None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Layout:
    """What is said of all images.

    Attributes:
        places: by the name of the image.
        left_out: why an image is neither used nor predicted, by its name.
        notes: a line about each thing that is perhaps not as it was meant.
        class_folders: the folder of each class, path in the data.
        tables: files that say it.
    """

    places: dict[str, Place] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    class_folders: set[str] = field(default_factory=set)
    tables: list[str] = field(default_factory=list)


# An image with the folders around it that may still say something, outermost first, then its name.
Parts = dict[str, tuple[str, ...]]


def read_folders(
    names: Iterable[str], path: Path, innermost: bool = False, grouped: bool = False
) -> Layout:
    """What folders say of images.

    Args:
        names: paths of the images in the data.
        path: of the data, for messages.
        innermost: whether the folder that an image is in is its class, and not the outermost one.
        grouped: whether the folders between class and image are a group.

    Raises:
        UserError: there are folders of val and test, but none of train.
    """
    layout = Layout()
    parts = _without_wrappers({name: PurePosixPath(name).parts for name in names}, layout)
    tops = _tops(parts.values())
    splits = _splits_among(tops)
    if len(tops) > 1 and {_split_of(name)[0] for name in tops} <= {"val", "test", UNLABELLED}:
        raise UserError(
            f"images.path = {path}: has {listed(sorted(tops))}, but no folder of training images; "
            "call one of them train"
        )
    if splits:
        by_split = _split_first(parts, splits, layout)
    elif second := _splits_second(parts):
        by_split = _split_second(parts, second, layout)
    else:
        by_split = {None: parts}
    known: set[str] = set()
    for split in sorted(by_split, key=lambda split: split != "train"):
        images = by_split[split]
        if split == UNLABELLED:
            layout.places.update(dict.fromkeys(images, Place(None)))
            continue
        if splits:
            images = _without_wrappers(images, layout, known)
        _read_classes(images, split, known, layout, innermost, grouped)
        if split in (None, "train"):
            known = {place.label for place in layout.places.values() if place.label is not None}
    return layout


def _tops(paths: Iterable[tuple[str, ...]]) -> set[str]:
    """The outermost folders."""
    return {path[0] for path in paths if len(path) > 1}


def _without_wrappers(parts: Parts, layout: Layout, classes: Collection[str] = ()) -> Parts:
    """Take off a folder that is around all others, such as that of an archive.

    Args:
        classes: names of folders that say something even if they are alone.
    """
    while True:
        tops = _tops(parts.values())
        if len(tops) != 1 or max(map(len, parts.values())) == 2 or not tops.isdisjoint(classes):
            return parts
        (top,) = tops
        for name, path in parts.items():
            if len(path) == 1:
                layout.left_out[name] = f"lies beside the folder {top!r}, above the classes"
        parts = {name: path[1:] for name, path in parts.items() if len(path) > 1}


def _words(name: str) -> list[str]:
    """The words of a folder's name in lower case: Train_Set has train and set."""
    return [word.casefold() for word in re.findall(r"[^\W\d_A-Z]+|[A-Z][a-z]*|[A-Z]+", name)]


def _split_of(name: str) -> tuple[str | None, frozenset[str]]:
    """The split that a folder's name says, and its other words that may say something."""
    words = _words(name)
    if "".join(words) in SPLIT_WORDS:  # TRAIN, tRaIn
        words = ["".join(words)]
    rest = frozenset(set(words) - SPLIT_WORDS.keys() - UNLABELLED_WORDS - FILLERS)
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if not found and not UNLABELLED_WORDS.isdisjoint(words):
        found = {UNLABELLED}
    return (found.pop() if len(found) == 1 else None), rest


def split_of(name: str) -> str | None:
    """The split that a name says: train, val, test or unlabelled; None if it says none."""
    return _split_of(name)[0]


def _splits_among(folders: Collection[str]) -> dict[str, str]:
    """The split of each folder that is one; empty if these are no splits but classes.

    They are splits if one is train, another is val or test, and their other words are the same:
    seg_train and seg_test are, a train station and a test bench are not.
    """
    said = {name: _split_of(name) for name in folders}
    rest_of_train = {rest for split, rest in said.values() if split == "train"}
    found = {
        name: split
        for name, (split, rest) in said.items()
        if split and (not rest or rest in rest_of_train)
    }
    return found if "train" in found.values() and set(found.values()) & {"val", "test"} else {}


def _split_first(
    parts: Parts, splits: Mapping[str, str], layout: Layout
) -> dict[str | None, Parts]:
    """SPLIT/CLASS/IMAGE: the images of each split, without the folder of the split."""
    found: dict[str | None, Parts] = {}
    for name, path in parts.items():
        if len(path) == 1:
            layout.left_out[name] = "lies beside the folders of the splits"
        elif path[0] not in splits:
            layout.left_out[name] = f"in none of the folders {listed(sorted(splits))}"
        else:
            found.setdefault(splits[path[0]], {})[name] = path[1:]
    return found


def _splits_second(parts: Parts) -> dict[str, str]:
    """The folders of splits within the classes, if all folders in the classes are splits."""
    seconds = {path[1] for path in parts.values() if len(path) > 2}
    splits = _splits_among(seconds)
    return splits if splits.keys() == seconds else {}


def _split_second(
    parts: Parts, splits: Mapping[str, str], layout: Layout
) -> dict[str | None, Parts]:
    """CLASS/SPLIT/IMAGE: the images of each split, without the folder of the split."""
    found: dict[str | None, Parts] = {}
    for name, path in parts.items():
        if len(path) < 3:
            layout.left_out[name] = f"in none of the folders {listed(sorted(splits))} of a class"
        else:
            found.setdefault(splits[path[1]], {})[name] = (path[0], *path[2:])
    layout.notes.append(f"{listed(sorted(splits))} in the folders of classes are splits")
    return found


def _read_classes(
    images: Parts,
    split: str | None,
    known: set[str],
    layout: Layout,
    innermost: bool,
    grouped: bool,
) -> None:
    """CLASS/IMAGE: add what the folders of one split say to ``layout``.

    Args:
        known: classes of train, when another split is read.
    """
    labels: dict[str, str | None] = {}
    by_case = {name.casefold(): name for name in known}
    for name, path in images.items():
        folders = path[:-1]
        label = None
        if folders:
            folder = folders[-1] if innermost else folders[0]
            label = composed(folder)
            label = label if label in known else by_case.get(label.casefold(), label)
        labels[name] = label
    strangers = sorted({label for label in labels.values() if label} - known) if known else []
    for name, path in images.items():
        label = labels[name]
        if label is None and split in (None, "train"):
            layout.left_out[name] = "lies above the folders of the classes"
            continue
        if label is None or label in strangers or split_of(label) == UNLABELLED:
            layout.places[name] = Place(None)
            continue
        depth = len(path) - 1 if innermost else 1
        between = [*path[: depth - 1], *path[depth:-1]]
        group = "/".join([label, *between]) if grouped and between else None
        layout.places[name] = Place(label, split, group)
        outside = len(PurePosixPath(name).parts) - len(path) + depth
        layout.class_folders.add("/".join(PurePosixPath(name).parts[:outside]))
    where = f"in {split}: " if split else ""
    if strangers:
        layout.notes.append(
            f"{where}folders that are no class of train, whose images are only predicted: "
            f"{listed(strangers)}"
        )
    nested = sorted(name for name, path in images.items() if len(path) > 2 and labels[name])
    if nested and not innermost:
        layout.notes.append(
            f"{where}{len(nested):,} images are in folders within a class, and belong to that "
            f"class: {nested[0]!r} is {labels[nested[0]]!r} (images.class_folder: innermost takes "
            "the folder that an image is in)"
        )
