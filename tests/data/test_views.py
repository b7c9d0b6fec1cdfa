"""Views: every random choice has an address."""

from collections import Counter
from pathlib import Path

import numpy as np

from pipeline.data.pixels import Split
from pipeline.data.views import view, views


def test_a_view_is_a_function_of_seed_epoch_and_image() -> None:
    assert view(0, 1, 17, 256, 300, 224, 0.5) == view(0, 1, 17, 256, 300, 224, 0.5)
    assert len({view(seed, epoch, 17, 256, 300, 224, 0.5) for seed in range(3) for epoch in range(3)}) == 9


def test_views_are_uniform_over_all_positions_and_flips() -> None:
    counts = Counter(view(0, 1, number, 10, 9, 8, 0.5) for number in range(12_000))
    assert set(counts) == {(top, left, flip) for top in range(3) for left in range(2) for flip in (False, True)}
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1150
    assert not any(view(0, 1, number, 10, 9, 8, 0.0)[2] for number in range(100))


def test_views_cut_and_mirror_the_image(project: Path) -> None:
    images = Split(project / "data" / "pixels", "train")
    rows = np.array([3, 0, 7])
    squares = views(images, rows, seed=5, epoch=2, crop=32, flip=0.5)
    for row, square in zip(rows, squares, strict=True):
        whole = images.image(row)
        top, left, mirrored = view(5, 2, int(images.ids[row]), whole.shape[0], whole.shape[1], 32, 0.5)
        expected = whole[top : top + 32, left : left + 32]
        assert np.array_equal(square, expected[:, ::-1] if mirrored else expected)
