"""Images that are the same or nearly the same: across splits they make test accuracy too good.

Images of all splits are counted in one row: those of train, then val, then test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.base.progress import progress

BLOCK = 1024  # rows compared with all others at once, for memory
NEAREST = 10  # other images of each split that are kept for an image
# Two images are nearly the same if their distance (1 - cosine) is at most so large a part of the
# median distance of two images of their class. By eye nine of ten such pairs of Flowers-102 show
# one plant. With one limit for all classes it were six: dandelions are more alike than roses.
NEAR = 0.2
FLOOR = 0.1  # of the median distance of all images: for a class that is one series of photographs
SAMPLE = 400  # images whose distances say what the median is
ACROSS = 100  # pairs across splits that are listed in any case
MOST = 1000  # pairs that are listed at most: identical, near across splits, near within one


@dataclass(frozen=True)
class Alike:
    """Images that are alike.

    Attributes:
        table: pairs: columns first, second (files), first_split, second_split, first_class,
            second_class, cosine, kind. Kind is identical (the same central square), near, or alike:
            among the ``ACROSS`` of the largest cosine across splits, but not near. In this order,
            and of a kind the most alike first.
        counts: how many near pairs there are across and within splits; how many images of val and
            test have an identical or near one of their class in train.
        distance: mean distance (1 - cosine) of each image to its nearest others, by row. Of images
            of one split that are identical only the first is there.
    """

    table: pd.DataFrame
    counts: dict[str, int]
    distance: pd.Series


def find_alike(images: pd.DataFrame, features: Tensor, squares: Sequence[bytes]) -> Alike:
    """Look for images that are alike, in all splits.

    Args:
        images: columns file, split, class; images of one split follow one another.
        features: what goes into the head, float32 [n, values].
        squares: of each image the digest of its central square.
    """
    split = images["split"].to_numpy()
    same = _identical_pairs(identical(squares))
    square = pd.factorize(pd.Series(squares))[0]
    # Copies would fill the lists of neighbours: of those in one split only the first is compared.
    is_copy = pd.DataFrame({"square": square, "split": split}).duplicated()
    rows = np.flatnonzero(~is_copy)
    neighbours = nearest(features[torch.from_numpy(rows)], split[rows].tolist())
    for column in ("row", "other"):
        neighbours[column] = rows[neighbours[column]]

    pairs = _pairs(neighbours)
    pairs = pairs[square[pairs["first"]] != square[pairs["second"]]]
    usual = usual_distances(features, images["class"].to_numpy())
    limit = NEAR * np.minimum(usual[pairs["first"]], usual[pairs["second"]])
    is_near = 1 - pairs["cosine"] <= limit
    pairs["kind"] = np.where(is_near, "near", "alike")
    is_across = split[pairs["first"]] != split[pairs["second"]]
    near_across = pairs[is_near & is_across]
    near_within = pairs[is_near & ~is_across]
    most_alike = pairs[is_across].head(ACROSS)
    near = pd.concat([near_across.head(MOST), near_within.head(MOST)])
    near = near.sort_values(["cosine", "first", "second"], ascending=[False, True, True])
    alike = most_alike[most_alike["kind"] == "alike"]
    listed = pd.concat([same.head(MOST), near, alike])

    table = pd.DataFrame(
        {
            f"{which}{ending}": images[column].to_numpy()[listed[which]]
            for column, ending in (("file", ""), ("split", "_split"), ("class", "_class"))
            for which in ("first", "second")
        }
    )
    table["cosine"] = listed["cosine"].to_numpy()
    table["kind"] = listed["kind"].to_numpy()
    counts = {
        "across_splits": len(near_across),
        "within_splits": len(near_within),
        "evaluated_near_train": _evaluated_near_train(images, pd.concat([same, near_across])),
    }
    return Alike(table, counts, _mean_distance(neighbours))


def identical(squares: Sequence[bytes]) -> list[list[int]]:
    """Groups of two or more rows whose digests are the same. Copies of a file are among them.

    Args:
        squares: of each image the digest of its central square.
    """
    groups: dict[bytes, list[int]] = {}
    for row, square in enumerate(squares):
        groups.setdefault(square, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def nearest(features: Tensor, splits: Sequence[str], count: int = NEAREST) -> pd.DataFrame:
    """For each image the ``count`` others of each split that are most alike.

    ``BLOCK`` rows are compared at once, which bounds the memory. The time grows with the square of
    the images.

    Args:
        features: what goes into the head, float32 [n, values].
        splits: names [n]; images of one split follow one another.

    Returns:
        Columns row, other (int), cosine (rounded to four decimals), in the order of row.
    """
    units = normalize(features)
    names = np.asarray(splits)
    borders = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    blocks = range(0, len(units), BLOCK)
    found = []
    for first in progress(blocks, len(blocks), "comparing images", unit="blocks"):
        cosine = units[first : first + BLOCK] @ units.T
        places = torch.arange(len(cosine))
        cosine[places, places + first] = -torch.inf  # of an image with itself
        for start, stop in pairwise(borders):
            values, others = cosine[:, start:stop].topk(min(count, stop - start))
            table = pd.DataFrame(
                {
                    "row": (places[:, None] + first).expand_as(others).flatten().numpy(),
                    "other": (others + start).flatten().numpy(),
                    "cosine": values.flatten().double().numpy().round(4),
                }
            )
            found.append(table[np.isfinite(table["cosine"])])
    return pd.concat(found).sort_values("row", kind="stable").reset_index(drop=True)


def usual_distances(features: Tensor, classes: np.ndarray) -> np.ndarray:
    """Of each image the median distance (1 - cosine) of two images of its class: float64 [n].

    It is at least ``FLOOR`` of the median distance of two images of any class, which also stands
    for that of a class of one image.

    Args:
        features: float32 [n, values].
        classes: name of the class of each image [n].
    """
    every = np.arange(len(features))
    overall = _median_distance(features, every)
    usual = np.empty(len(features))
    for rows in pd.Series(every).groupby(classes).indices.values():
        found = _median_distance(features, np.asarray(rows)) if len(rows) > 1 else overall
        usual[rows] = max(found, FLOOR * overall)
    return usual


def _median_distance(features: Tensor, rows: np.ndarray) -> float:
    """The median distance of two of ``rows``, by ``SAMPLE`` of them evenly spread; 0 for one."""
    if len(rows) < 2:
        return 0.0
    places = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).round().astype(int)
    units = normalize(features[torch.from_numpy(rows[places])])
    first, second = np.triu_indices(len(places), 1)
    return float(np.median(1 - (units @ units.T).double().numpy()[first, second]))


def _identical_pairs(groups: list[list[int]]) -> pd.DataFrame:
    """The first image of each group with each other one: columns first, second, cosine, kind."""
    pairs = [(rows[0], other) for rows in groups for other in rows[1:]]
    table = pd.DataFrame(pairs, columns=["first", "second"], dtype="int64")
    return table.assign(cosine=1.0, kind="identical")


def _pairs(neighbours: pd.DataFrame) -> pd.DataFrame:
    """Each pair of neighbours once, the most alike first: columns first < second, cosine."""
    rows = neighbours[["row", "other"]].to_numpy()
    table = pd.DataFrame(
        {"first": rows.min(axis=1), "second": rows.max(axis=1), "cosine": neighbours["cosine"]}
    )
    order = ["cosine", "first", "second"]
    table = table.sort_values(order, ascending=[False, True, True])
    return table.drop_duplicates(["first", "second"]).reset_index(drop=True)


def _mean_distance(neighbours: pd.DataFrame) -> pd.Series:
    """Mean distance of each image to its ``NEAREST`` nearest others, whatever their split."""
    ranked = neighbours.sort_values(["row", "cosine"], ascending=[True, False], kind="stable")
    return 1 - ranked.groupby("row").head(NEAREST).groupby("row")["cosine"].mean()


def _evaluated_near_train(images: pd.DataFrame, pairs: pd.DataFrame) -> int:
    """How many images of val and test are, with an image of their class in train, among ``pairs``.

    The first of a pair comes earlier, so that it is the one of train.
    """
    split = images["split"].to_numpy()
    labels = images["class"].to_numpy()
    first = pairs["first"].to_numpy()
    second = pairs["second"].to_numpy()
    is_met = (split[first] == "train") & (split[second] != "train")
    return len(np.unique(second[is_met & (labels[first] == labels[second])]))
