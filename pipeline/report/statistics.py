"""How certain a test accuracy is, and a difference between two."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm, t

CONFIDENCE = 0.95  # of the intervals


@dataclass(frozen=True)
class PairedDifference:
    """Two models on the same images.

    Attributes:
        difference: accuracy of the second minus the first, a fraction.
        low, high: its 95 % interval.
        only_first, only_second: how many images only that model classifies correctly.
        p_value: of the hypothesis that both are equally accurate.
    """

    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    p_value: float


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of an accuracy, by Wilson's score method (Wilson, JASA 1927).

    Args:
        correct: images classified correctly, of ``n``.

    Returns:
        low, high, as fractions.
    """
    interval = binomtest(correct, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Whether two models differ in accuracy on the same images.

    The interval is the adjusted Wald method for paired proportions (Agresti & Min, Statistics in
    Medicine 2005): half an image is added to each cell of the 2 x 2 table. The p-value is that of
    McNemar's test, exact: a two-sided binomial test on the images that only one model gets right.

    Args:
        first, second: bool [n], which images each model classifies correctly, in the same order.
    """
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    n = len(first) + 2
    b = only_first + 0.5
    c = only_second + 0.5
    centre = (c - b) / n
    quantile = norm.ppf((1 + CONFIDENCE) / 2)
    half = quantile * math.sqrt((b + c) / n - centre**2) / math.sqrt(n)
    discordant = only_first + only_second
    p_value = float(binomtest(only_second, discordant).pvalue) if discordant else 1.0
    return PairedDifference(
        difference=(only_second - only_first) / len(first),
        low=max(-1.0, float(centre - half)),
        high=min(1.0, float(centre + half)),
        only_first=only_first,
        only_second=only_second,
        p_value=p_value,
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean, by Student's t.

    Args:
        values: a sample of two or more independent values.

    Returns:
        low, high.
    """
    quantile = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half = quantile * np.std(values, ddof=1) / math.sqrt(len(values))
    mean = np.mean(values)
    return float(mean - half), float(mean + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted so that the chance of any false alarm is that of one.

    Holm's step-down method (Scandinavian Journal of Statistics 1979); a single p-value stays as it
    is.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, test in enumerate(ascending):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[test]))
        adjusted[test] = highest
    return adjusted
