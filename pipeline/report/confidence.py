"""How sure a test accuracy, and a difference of two, can be."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, norm, t

CONFIDENCE = 0.95


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion, by Wilson's score method (Wilson, JASA 1927): low, high, as fractions."""
    interval = binomtest(correct, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(first: np.ndarray, second: np.ndarray) -> dict[str, float | int]:
    """Do two models differ on the same images?

    Args:
        first, second: bool [n], which images each model classifies correctly, in the same order.

    Returns:
        ``difference``: accuracy of second minus first, a fraction; ``low``, ``high``: its 95 % interval by the
        adjusted Wald method for paired proportions (Agresti & Min, Statistics in Medicine 2005: half an image
        added to each cell of the 2 x 2 table); ``only_first``, ``only_second``: images that only one model gets
        right; ``p_value``: McNemar's test, exact (two-sided binomial on those images).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n, b, c = len(first) + 2, only_first + 0.5, only_second + 0.5
    centre = (c - b) / n
    half = norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((b + c) / n - centre**2) / math.sqrt(n)
    discordant = only_first + only_second
    return {
        "difference": (only_second - only_first) / len(first),
        "low": max(-1.0, float(centre - half)),
        "high": min(1.0, float(centre + half)),
        "only_first": only_first,
        "only_second": only_second,
        "p_value": float(binomtest(only_second, discordant).pvalue) if discordant else 1.0,
    }


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean that two or more independent ``values`` are a sample of, by Student's t: low, high."""
    half = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted so that the chance of any false alarm stays what one test promises.

    Holm's step-down method (Scandinavian Journal of Statistics 1979); a single p-value stays as it is.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = highest
    return adjusted
