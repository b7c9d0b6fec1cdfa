"""Views: every random choice has an address."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import resized_crop as torchvision_resized_crop

from pipeline.data.pixels import Split
from pipeline.data.views import resized_crop, view, views


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


def test_resized_crops_are_chosen_as_torchvision_does() -> None:
    """The same quantiles of place, share of the area and shape; all within the image; each at an address of its own."""
    height, width, count = 40, 60, 4000
    assert resized_crop(0, 1, 17, height, width, 0.3, 0.5) == resized_crop(0, 1, 17, height, width, 0.3, 0.5)
    assert len({resized_crop(s, e, 17, height, width, 0.3, 0.5) for s in range(3) for e in range(3)}) == 9
    ours = np.array([resized_crop(0, 1, number, height, width, 0.3, 0.5) for number in range(count)])
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.3, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    top, left, h, w, mirrored = ours.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    assert abs(mirrored.mean() - 0.5) < 0.03
    for mine, other in (
        (h * w / height / width, theirs[:, 2] * theirs[:, 3] / height / width),
        (w / h, theirs[:, 3] / theirs[:, 2]),
        (top / height, theirs[:, 0] / height),
        (left / width, theirs[:, 1] / width),
    ):
        for share in (0.1, 0.5, 0.9):
            assert np.quantile(mine, share) == pytest.approx(np.quantile(other, share), abs=0.04)


def test_an_image_too_long_for_any_shape_gives_its_middle() -> None:
    assert resized_crop(0, 1, 17, 10, 200, 1.0, 0.0) == (0, 93, 10, 13, False)
    assert resized_crop(0, 1, 17, 200, 10, 1.0, 0.0) == (93, 0, 13, 10, False)


def test_resized_views_are_the_pixels_that_torchvision_makes(project: Path) -> None:
    images = Split(project / "data" / "pixels", "train")
    rows = np.array([3, 0, 7])
    squares = views(images, rows, seed=5, epoch=2, crop=30, flip=0.5, scale=0.3)
    for row, square in zip(rows, squares, strict=True):
        whole = images.image(row)
        *box, mirrored = resized_crop(5, 2, int(images.ids[row]), whole.shape[0], whole.shape[1], 0.3, 0.5)
        expected = np.asarray(torchvision_resized_crop(Image.fromarray(whole), *box, [30, 30]))
        assert np.array_equal(square, expected[:, ::-1] if mirrored else expected)
