"""Which images become train, val and test, where nothing says so.

Drawn in each class by the content of its images, not by their number or order, so that a split
hardly changes when images come or go. Identical images, and images of one group, stay together.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.params import Shares


@dataclass(frozen=True)
class Drawn:
    """An image whose split is to be drawn.

    Attributes:
        label: name of its class.
        digest: SHA-256 of the file, hex.
        group: images of one group get one split; None for an image by itself.
    """

    label: str
    digest: str
    group: str | None = None


@dataclass
class _Unit:
    """Images that stay together, at their place in the order of the draw (a hash)."""

    rows: list[int]
    label: str
    place: bytes
    split: str = "train"


def draw_splits(images: Sequence[Drawn], shares: Shares, drawn: Collection[str]) -> list[str]:
    """The split of each image.

    In every class the shares are met as nearly as whole images allow. Each class keeps an image in
    train; from three images (or groups) on it has one in every split, of two one is for val or
    test. One image more moves at most one other, now and then two: no rule could promise one, for
    of three images each would have to be the one that moves.

    Args:
        drawn: which of val and test are drawn; the rest is train.
    """
    units = _units(images, shares.seed)
    by_class: dict[str, list[_Unit]] = {}
    for unit in units:
        by_class.setdefault(unit.label, []).append(unit)
    for label, of_class in by_class.items():
        _draw_class(of_class, label, shares, drawn)
    _fill_empty(by_class, drawn)
    _keep_train(images, units)
    splits = [""] * len(images)
    for unit in units:
        for row in unit.rows:
            splits[row] = unit.split
    return splits


def _units(images: Sequence[Drawn], seed: int) -> list[_Unit]:
    """Images that share content or a group, directly or through others, become one unit.

    A unit whose images have several labels counts for the most frequent one.
    """
    count = len(images)
    digests, _ = pd.factorize(np.array([image.digest for image in images]))
    names = [image.group or f"\0{image.digest}" for image in images]
    groups, _ = pd.factorize(np.array(names))
    nodes = count + int(digests.max()) + 1
    rows = np.arange(count)
    ends = np.concatenate([digests + count, groups + nodes])
    size = nodes + int(groups.max()) + 1
    edges = coo_array((np.ones(2 * count), (np.concatenate([rows, rows]), ends)), (size, size))
    _, component = connected_components(edges, directed=False)

    found: dict[int, list[int]] = {}
    for row, number in enumerate(component[:count].tolist()):
        found.setdefault(number, []).append(row)
    units = []
    for members in found.values():
        labels = Counter(images[row].label for row in members)
        label = min(labels, key=lambda name: (-labels[name], name))
        place = hashlib.sha256(f"{seed} {min(names[row] for row in members)}".encode()).digest()
        units.append(_Unit(members, label, place))
    return units


def _draw_class(units: list[_Unit], label: str, shares: Shares, drawn: Collection[str]) -> None:
    """Give the units of one class their splits.

    In the order of their places the first are val, the last test, and between them is train: so
    where one split grows by an image, its neighbour gives one.
    """
    units.sort(key=lambda unit: unit.place)
    if len(units) == 1:
        return
    if len(units) == 2:
        smaller = min(units, key=lambda unit: len(unit.rows))
        turn = hashlib.sha256(f"{shares.seed} {label}".encode()).digest()[0] % len(drawn)
        smaller.split = sorted(drawn)[turn]
        return
    counts = _counts(sum(len(unit.rows) for unit in units), shares, drawn)
    free = len(units) - 1 - len(drawn)  # beyond one unit of each split
    for split, ordered in (("val", units), ("test", units[::-1])):
        if split not in drawn:
            continue
        ordered[0].split = split
        taken = len(ordered[0].rows)
        for unit in ordered[1:]:
            size = len(unit.rows)
            if not free or abs(taken + size - counts[split]) >= abs(taken - counts[split]):
                break
            unit.split = split
            taken += size
            free -= 1


def _fill_empty(by_class: Mapping[str, list[_Unit]], drawn: Collection[str]) -> None:
    """Where few classes of two units all went to one of val and test, give one to the other."""
    used = {unit.split for units in by_class.values() for unit in units}
    pairs = [units for units in by_class.values() if len(units) == 2]
    held_out = [unit for units in pairs for unit in units if unit.split != "train"]
    for split in sorted(set(drawn) - used):
        if len(held_out) > 1:
            min(held_out, key=lambda unit: unit.place).split = split


def _counts(total: int, shares: Shares, drawn: Collection[str]) -> Counter[str]:
    """How many of ``total`` images each split gets.

    By the divisors of Sainte-Lague (Webster) after one for each, so that one image more is one more
    for one split, and no split ever loses one.
    """
    weights = {"val": shares.val, "test": shares.test}
    weights = {split: weights[split] for split in sorted(drawn)}
    weights["train"] = 1 - sum(weights.values())
    counts = Counter(dict.fromkeys(weights, 1))
    for _ in range(total - len(weights)):
        counts[max(weights, key=lambda split: weights[split] / (2 * counts[split] + 1))] += 1
    return counts


def _keep_train(images: Sequence[Drawn], units: list[_Unit]) -> None:
    """A class whose images are all in units of other classes may lack train: give it a unit."""
    missing = {image.label for image in images}
    missing -= {images[row].label for unit in units if unit.split == "train" for row in unit.rows}
    for label in sorted(missing):
        of_class = [unit for unit in units if any(images[row].label == label for row in unit.rows)]
        if all(unit.split != "train" for unit in of_class):
            of_class.sort(key=lambda unit: (-len(unit.rows), unit.place))
            of_class[0].split = "train"
