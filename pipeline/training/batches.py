"""Which images are trained on, in which order."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

ORDER = 1  # purposes of random addresses, as VIEW (0) in pipeline/data/views.py
SUBSET = 3


def batch_rows(count: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Rows 0..count-1 in the order of ``epoch``, cut into batches; the last may be smaller.

    A single row that is left over goes with the batch before it: BatchNorm cannot be trained on one
    image.
    """
    order = np.random.default_rng([ORDER, seed, epoch]).permutation(count)
    return np.split(order, range(size, count - 1, size))


@dataclass(frozen=True)
class TrainingRows:
    """The images of a training split that are trained on, and their labels, for an epoch.

    Attributes:
        rows: of the split, int64 [n].
        labels: int64 [n].
    """

    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def weights_of_classes(kind: str, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """The weight of each class in the loss, float32 [classes]; None if all images weigh the same.

    Balanced is n / (k * images of the class), where k classes have images: the formula of
    scikit-learn's ``class_weight="balanced"``, with which all classes weigh the same. A class
    without an image has the weight 0.

    Args:
        kind: none or balanced.
        labels: of the images that are trained on, int64 [n].
    """
    if kind == "none":
        return None
    counts = np.bincount(labels, minlength=classes)
    weights = np.zeros(classes, np.float32)
    has_images = counts > 0
    weights[has_images] = len(labels) / (has_images.sum() * counts[has_images])
    return weights


def limit_images_per_class(
    ids: np.ndarray, labels: np.ndarray, limit: int | str, seed: int
) -> TrainingRows:
    """At most ``limit`` images of each class, repeated so that an epoch keeps its length.

    Equal epochs make equal numbers of steps, so that results differ by the images alone. Every
    image has a random place in its class, by (seed, image id), so the images of a smaller ``limit``
    are among those of a larger one.

    Args:
        ids, labels: of the split's images, int64 [n].
        limit: a number, or all.
    """
    if isinstance(limit, str):
        return TrainingRows(np.arange(len(ids)), labels)
    places = [np.random.default_rng([SUBSET, seed, image_id]).random() for image_id in ids.tolist()]
    rank = pd.Series(places).groupby(labels).rank(method="first").to_numpy()
    rows = np.resize(np.flatnonzero(rank <= limit), len(labels))
    return TrainingRows(rows, labels[rows])
