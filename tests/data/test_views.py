"""Views: every random choice has an address, and a view has the same bits wherever it is cut."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Normalize, ToTensor

from pipeline.base.cache import Cache
from pipeline.data import views as module
from pipeline.data.pixels import Pixels
from pipeline.data.views import (
    EVALUATION,
    Augmentation,
    Crop,
    DevicePixels,
    Views,
    chunks,
    cut,
    random_crop,
)
from tests.small import AUGMENTATION, COUNTS, CPU, PREPROCESSING, SmallData, write_small_data

ROWS = np.array([3, 0, 7, 20])
SIDE = PREPROCESSING.crop
SMALLER = replace(AUGMENTATION, side=13)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return write_small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def pixels(data: SmallData, tmp_path: Path) -> Pixels:
    return data.pixels("train", Cache(tmp_path / "cache", 10**9))


def test_a_crop_is_a_function_of_seed_epoch_and_image() -> None:
    addresses = [(seed, epoch, image) for seed in range(3) for epoch in (1, 2) for image in (5, 6)]
    crops = [random_crop(*address, 256, 300, 224, 0.5) for address in addresses]
    assert len(set(crops)) == len(addresses)
    assert [random_crop(*address, 256, 300, 224, 0.5) for address in addresses] == crops


def test_crops_are_uniform_over_all_positions_and_flips() -> None:
    counts = Counter(random_crop(0, 1, image_id, 10, 9, 8, 0.5) for image_id in range(12_000))
    every = {
        Crop(top, left, 8, mirrored)
        for top in range(3)
        for left in range(2)
        for mirrored in (False, True)
    }
    assert set(counts) == every
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1150
    for flip in (0.0, 1.0):
        mirrored = {random_crop(0, 1, image_id, 10, 9, 8, flip).mirrored for image_id in range(100)}
        assert mirrored == {bool(flip)}


@pytest.mark.parametrize("side", [SIDE, 13, 18])
def test_views_of_training_are_the_crops_of_the_images(pixels: Pixels, side: int) -> None:
    squares = Views(pixels, CPU, Augmentation(seed=5, flip=0.5, side=side)).squares(ROWS, epoch=2)
    assert (squares.dtype, squares.shape) == (torch.uint8, (4, side, side, 3))
    flips = set()
    for row, square in zip(ROWS, squares.numpy(), strict=True):
        image = pixels.image(row)
        image_id = int(pixels.split.ids[row])
        crop = random_crop(5, 2, image_id, image.shape[0], image.shape[1], side, 0.5)
        part = image[crop.top : crop.top + side, crop.left : crop.left + side]
        assert np.array_equal(square, part[:, ::-1] if crop.mirrored else part)
        flips.add(crop.mirrored)
    assert flips == {False, True}


@pytest.mark.parametrize("augmentation", [AUGMENTATION, SMALLER])
def test_views_of_training_are_parts_of_the_padded_images(
    data: SmallData, tmp_path: Path, augmentation: Augmentation
) -> None:
    views = data.views("train", Cache(tmp_path, 10**9), augmentation, fit="pad")
    whole = {tuple(views.pixels.image(row).shape) for row in range(len(views))}
    assert whole == {(20, 20, 3)}
    seen = views.squares(np.arange(len(views)), epoch=1).numpy()
    assert len(np.unique(seen, axis=0)) == len(views)
    for row in ROWS:
        crop = random_crop(0, 1, int(views.pixels.split.ids[row]), 20, 20, augmentation.side, 0.5)
        assert np.array_equal(seen[row], cut(views.pixels.image(row), crop))


@pytest.mark.parametrize("augmentation", [None, AUGMENTATION, SMALLER])
@pytest.mark.parametrize("name", ["train", "test"])
def test_views_of_evaluation_are_the_central_squares(
    data: SmallData, tmp_path: Path, name: str, augmentation: Augmentation | None
) -> None:
    views = data.views(name, Cache(tmp_path, 10**9), augmentation)
    rows = np.array([5, 2])
    squares = views.squares(rows, EVALUATION)
    assert np.array_equal(squares.numpy(), views.pixels.central(rows))


def test_the_input_of_the_network_is_torchvisions_bit_for_bit(pixels: Pixels) -> None:
    inputs = Views(pixels, CPU).batch(ROWS, EVALUATION)
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    normalize = Normalize(PREPROCESSING.mean, PREPROCESSING.std)
    transform = Compose([CenterCrop(SIDE), ToTensor(), normalize])
    for row, ours in zip(ROWS, inputs, strict=True):
        assert torch.equal(ours, transform(Image.fromarray(pixels.image(row))))


@pytest.mark.parametrize("augmentation", [AUGMENTATION, SMALLER])
def test_a_view_does_not_depend_on_order_batch_or_what_ran_before(
    pixels: Pixels, augmentation: Augmentation
) -> None:
    views = Views(pixels, CPU, augmentation)
    every = views.batch(np.arange(len(views)), epoch=1)
    order = np.random.default_rng(0).permutation(len(views))
    assert torch.equal(views.batch(order, epoch=1), every[order])
    views.batch(order, epoch=2)
    for row in ROWS:
        alone = Views(pixels, CPU, augmentation).batch(np.array([row]), epoch=1)
        assert torch.equal(alone[0], every[row])
    assert not torch.equal(views.batch(order, epoch=2), every[order])


def test_crops_on_a_device_are_the_same_integers(pixels: Pixels) -> None:
    """Here the device is the CPU; the operations are those of any device."""
    views = Views(pixels, CPU, SMALLER)
    rows = np.random.default_rng(0).permutation(COUNTS["train"])
    expected = [views.squares(rows, epoch) for epoch in (EVALUATION, 1, 2)]
    views._on_device = DevicePixels(pixels, CPU)
    found = [views.squares(rows, epoch) for epoch in (EVALUATION, 1, 2)]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.uint8
        assert torch.equal(ours, theirs)

    crops = [Crop(1, 2, 9, False), Crop(0, 3, 9, True), Crop(4, 0, 9, True)]
    parts = DevicePixels(pixels, CPU).cut(ROWS[:3], crops).numpy()
    for row, crop, part in zip(ROWS[:3], crops, parts, strict=True):
        assert np.array_equal(part, cut(pixels.image(row), crop))


@pytest.mark.parametrize(("share", "is_kept"), [(0.49, True), (0.51, False)])
def test_pixels_go_to_the_memory_of_a_gpu_if_they_take_less_than_half_of_what_is_free(
    pixels: Pixels, monkeypatch: pytest.MonkeyPatch, share: float, is_kept: bool
) -> None:
    made: list[torch.device] = []
    free = int(pixels.largest_size() / share)

    def make(pixels: Pixels, device: torch.device) -> bool:
        made.append(device)
        return True

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 0))
    monkeypatch.setattr(module, "DevicePixels", make)
    cuda = torch.device("cuda")
    views = Views(pixels, cuda, AUGMENTATION)
    views.prepare()
    views.prepare()
    assert made == [cuda] * is_kept


def test_prepare_decodes_once_and_for_all(pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    views = Views(pixels, CPU, AUGMENTATION)
    views.prepare()
    monkeypatch.setattr("pipeline.data.pixels.decode", None)
    views.batch(np.arange(len(views)), epoch=1)


def changed(pixels: Pixels, **changes: Any) -> Pixels:
    return replace(pixels, preprocessing=replace(PREPROCESSING, **changes))


def test_the_key_is_of_all_that_determines_the_views(pixels: Pixels) -> None:
    def key(pixels: Pixels, augmentation: Augmentation = AUGMENTATION, epoch: int = 1) -> Any:
        return Views(pixels, CPU, augmentation).key(0, 8, epoch)

    split = pixels.split
    keys = [
        key(pixels),
        key(pixels, epoch=2),
        key(pixels, epoch=EVALUATION),
        key(pixels, replace(AUGMENTATION, seed=1)),
        key(pixels, replace(AUGMENTATION, flip=0.25)),
        key(pixels, SMALLER),
        key(changed(pixels, resize=21)),
        key(changed(pixels, crop=17)),
        key(changed(pixels, fit="pad")),
        key(changed(pixels, mean=[0.5, 0.5, 0.5])),
        key(changed(pixels, std=[0.5, 0.5, 0.5])),
        key(replace(pixels, split=replace(split, ids=split.ids + 1))),
        key(replace(pixels, split=replace(split, digests=split.digests[::-1]))),
    ]
    for place, one in enumerate(keys):
        assert one not in keys[:place]
    assert key(pixels) == keys[0]
    evaluated = Views(pixels, CPU).key(0, 8, EVALUATION)
    assert key(pixels, replace(AUGMENTATION, seed=1), EVALUATION) == evaluated


def test_chunks_are_the_rows_in_order() -> None:
    assert [chunk.tolist() for chunk in chunks(3, 8, 2)] == [[3, 4], [5, 6], [7]]
    assert [chunk.tolist() for chunk in chunks(0, 4, 2)] == [[0, 1], [2, 3]]
    assert chunks(0, 0, 2) == []
