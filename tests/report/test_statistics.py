"""Intervals and tests, on cases whose answer is known."""

import math

import numpy as np
import pytest

from pipeline.report.statistics import accuracy_interval, holm, mean_interval, paired_difference


def test_wilson_interval_of_a_textbook_case() -> None:
    """81 of 263: 0.2553 to 0.3662 (Newcombe, Statistics in Medicine 1998, table I, method 3)."""
    low, high = accuracy_interval(81, 263)
    assert low == pytest.approx(0.2553, abs=5e-5)
    assert high == pytest.approx(0.3662, abs=5e-5)


def test_paired_difference_of_a_textbook_case() -> None:
    """150 voters asked twice: 80 yes both, 8 and 29 changed their minds, 33 no both."""
    first = np.array([True] * 80 + [True] * 8 + [False] * 29 + [False] * 33)
    second = np.array([True] * 80 + [False] * 8 + [True] * 29 + [False] * 33)
    result = paired_difference(first, second)
    assert result.difference == pytest.approx(21 / 150)
    assert (result.only_first, result.only_second) == (8, 29)
    # By hand: (29.5 - 8.5) / 152 -+ 1.959964 * sqrt((29.5 + 8.5) / 152 - (21 / 152)^2) / sqrt(152)
    assert result.low == pytest.approx(0.06177, abs=1e-4)
    assert result.high == pytest.approx(0.21455, abs=1e-4)
    # McNemar, exact: twice the probability of at most 8 heads in 37 tosses of a coin.
    at_most_8 = sum(math.comb(37, heads) for heads in range(9)) / 2**37
    assert result.p_value == pytest.approx(2 * at_most_8)


def test_interval_of_a_mean_of_a_textbook_case() -> None:
    """Student's own data: extra sleep of ten patients with the second drug (Biometrika 1908).

    Mean 2.33 hours, standard deviation 2.002, and t is 2.262.
    """
    low, high = mean_interval([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert low == pytest.approx(2.33 - 2.262 * 2.002 / 10**0.5, abs=1e-3)
    assert high == pytest.approx(2.33 + 2.262 * 2.002 / 10**0.5, abs=1e-3)


def test_equal_models_do_not_differ() -> None:
    same = np.array([True, False, True])
    result = paired_difference(same, same)
    assert result.difference == 0
    assert result.p_value == 1
    assert result.low < 0 < result.high


def test_95_percent_of_the_intervals_contain_the_true_difference() -> None:
    """Of 1,000 simulated experiments whose true difference is 4 points."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        # Cells of the 2 x 2 table: 0 both right, 1 only the first, 2 only the second, 3 none.
        cells = random.choice(4, 300, p=[0.8, 0.06, 0.1, 0.04])
        result = paired_difference(np.isin(cells, [0, 1]), np.isin(cells, [0, 2]))
        hits += result.low <= 0.04 <= result.high
    assert 930 <= hits <= 975


def test_holm_of_a_textbook_case() -> None:
    """Each p-value times the number of those not smaller, and never below that of a smaller one."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.03]) == [0.03]
    assert holm([0.7, 0.9]) == [1, 1]
