"""Every epoch has an order of its own, fewer images make epochs of the same length, and classes
weigh what the recipe says.
"""

import numpy as np
import pytest

from pipeline.training.batches import batch_rows, limit_images_per_class, weights_of_classes


def order_of(count: int, size: int, seed: int = 0, epoch: int = 1) -> list[int]:
    return [int(row) for row in np.concatenate(batch_rows(count, size, seed, epoch))]


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    assert [len(batch) for batch in batch_rows(1020, 32, seed=0, epoch=1)] == [32] * 31 + [28]
    first = order_of(1020, 32)
    assert sorted(first) == list(range(1020))
    assert order_of(1020, 32) == first
    assert order_of(1020, 32, epoch=2) != first
    assert order_of(1020, 32, seed=1) != first
    assert order_of(1020, 64) == first


@pytest.mark.parametrize(
    ("count", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (5, [5]), (3, [3]), (2, [2])]
)
def test_a_single_image_that_is_left_over_goes_with_the_batch_before_it(
    count: int, sizes: list[int]
) -> None:
    assert [len(batch) for batch in batch_rows(count, 4, seed=0, epoch=1)] == sizes
    assert sorted(order_of(count, 4)) == list(range(count))


IDS = np.random.default_rng(0).permutation(np.arange(100, 116))
LABELS = np.repeat([0, 1, 2], [10, 4, 2])


def chosen(limit: int, seed: int = 0) -> set[int]:
    """The ids of the images that are trained on."""
    rows = limit_images_per_class(IDS, LABELS, limit, seed)
    assert len(rows) == len(IDS)
    assert np.array_equal(rows.labels, LABELS[rows.rows])
    times = np.unique(rows.rows, return_counts=True)[1]
    assert times.max() - times.min() <= 1
    return set(IDS[rows.rows].tolist())


def test_the_images_of_a_smaller_limit_are_among_those_of_a_larger_one() -> None:
    one = chosen(1)
    three = chosen(3)
    assert len(one) == 3
    assert len(three) == 3 + 3 + 2
    assert one < three < chosen(10) == set(IDS.tolist())
    for limit, counts in ((1, [1, 1, 1]), (3, [3, 3, 2])):
        labels = LABELS[np.isin(IDS, list(chosen(limit)))]
        assert np.bincount(labels).tolist() == counts
    assert chosen(1) == one
    assert any(chosen(1, seed=seed) != one for seed in (1, 2))


def test_images_are_chosen_by_their_ids() -> None:
    """Whatever the order of the split is."""
    order = np.random.default_rng(1).permutation(len(IDS))
    rows = limit_images_per_class(IDS[order], LABELS[order], 3, 0)
    assert set(IDS[order][rows.rows].tolist()) == chosen(3)


def test_all_are_all_in_their_order() -> None:
    rows = limit_images_per_class(IDS, LABELS, "all", 0)
    assert np.array_equal(rows.rows, np.arange(16))
    assert np.array_equal(rows.labels, LABELS)
    assert len(rows) == 16


def test_balanced_classes_weigh_the_same() -> None:
    """By the formula of scikit-learn's compute_class_weight: n / (classes * images)."""
    weights = weights_of_classes("balanced", LABELS, classes=3)
    assert weights is not None
    assert weights.dtype == np.float32
    assert weights == pytest.approx([16 / (3 * 10), 16 / (3 * 4), 16 / (3 * 2)])
    assert weights * np.bincount(LABELS) == pytest.approx([16 / 3] * 3)


def test_a_class_without_images_has_no_weight_and_changes_no_other() -> None:
    weights = weights_of_classes("balanced", np.array([0, 2, 2]), classes=4)
    assert weights == pytest.approx([3 / (2 * 1), 0, 3 / (2 * 2), 0])


def test_without_weights_there_are_none() -> None:
    assert weights_of_classes("none", LABELS, classes=3) is None
