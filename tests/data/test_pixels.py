"""Decoded pixels: the same from the archive and from the cache, whatever state the cache is in."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.base.cache import GIGABYTE, Cache
from pipeline.base.errors import UserError
from pipeline.data import pixels
from pipeline.data.archive import Archive
from pipeline.data.images import central, decode, fitted
from pipeline.data.pixels import Pixels, read_split
from tests.conftest import jpeg, write_archive
from tests.small import COUNTS, PREPROCESSING, SmallData, flip_bit, write_small_data

SHARD = 8  # images in an entry of the cache, in place of 256
COUNT = COUNTS["train"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return write_small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "SHARD", SHARD)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", GIGABYTE)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all images that are decoded, in order."""
    names: list[str] = []

    def counted(encoded: bytes, name: str) -> Image.Image:
        names.append(name.split(", ")[1])
        return decode(encoded, name)

    monkeypatch.setattr(pixels, "decode", counted)
    return names


def as_next_run(cache: Cache) -> Cache:
    return Cache(cache.folder, cache.limit)


def expected(data: SmallData, name: str, row: int, fit: str = "crop") -> np.ndarray:
    """An image of train, whole, or the central square of another."""
    encoded = data.archive.read(data.splits[name].members[row])
    image = fitted(decode(encoded, "x"), replace(PREPROCESSING, fit=fit))
    return np.asarray(image if name == "train" else central(image, PREPROCESSING.crop))


def assert_right(found: Pixels, data: SmallData) -> None:
    """All images are right, asked for in any order."""
    name = found.split.name
    rows = np.random.default_rng(0).permutation(len(found.split))
    for row in rows:
        image = expected(data, name, row, found.preprocessing.fit)
        assert np.array_equal(found.image(row), image)


def test_a_split_is_the_rows_of_the_index_in_their_order() -> None:
    index = pd.DataFrame(
        {
            "member": ["b", "a", "c"],
            "id": [7, 3, 9],
            "split": ["train", "val", "train"],
            "label": [1, 0, 2],
            "sha256": ["1", "2", "3"],
        }
    )
    split = read_split(index, "train")
    assert (split.name, split.members, split.digests) == ("train", ["b", "c"], ["1", "3"])
    assert split.ids.tolist() == [7, 9]
    assert split.labels.tolist() == [1, 2]
    assert len(split) == 2
    assert split.ids.dtype == split.labels.dtype == np.int64


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("name", ["train", "val"])
def test_images_are_decoded_once_and_the_same_after_that(
    data: SmallData, cache: Cache, decoded: list[str], name: str, fit: str
) -> None:
    assert_right(data.pixels(name, cache, fit), data)
    assert sorted(decoded) == sorted(data.splits[name].members)
    assert len(cache.files()) == -(-COUNTS[name] // SHARD)
    decoded.clear()
    assert_right(data.pixels(name, as_next_run(cache), fit), data)
    assert not decoded


def test_central_squares(data: SmallData, cache: Cache) -> None:
    squares = data.pixels("train", cache).central([4, 0])
    assert squares.shape == (2, 16, 16, 3)
    for square, row in zip(squares, [4, 0], strict=True):
        whole = Image.fromarray(expected(data, "train", row))
        assert np.array_equal(square, np.asarray(central(whole, 16)))
    assert np.array_equal(data.pixels("val", cache).central([3])[0], expected(data, "val", 3))


def off(cache: Cache) -> Cache:
    return Cache(cache.folder, 0)


def damaged(cache: Cache) -> Cache:
    for path in cache.files():
        flip_bit(path, place=-100)
    return as_next_run(cache)


def half_there(cache: Cache) -> Cache:
    next(iter(cache.files())).unlink()
    return as_next_run(cache)


def unwritable(cache: Cache) -> Cache:
    shutil.rmtree(cache.folder)
    cache.folder.write_text("a file in its place")
    return as_next_run(cache)


@pytest.mark.parametrize("state", [off, damaged, half_there, unwritable])
def test_the_state_of_the_cache_changes_no_pixel(
    data: SmallData, cache: Cache, state: Callable[[Cache], Cache]
) -> None:
    data.pixels("train", cache).image(0)
    assert_right(data.pixels("train", state(cache)), data)


def test_images_beyond_the_limit_are_decoded_when_they_are_needed(
    data: SmallData, cache: Cache, decoded: list[str]
) -> None:
    """And no more of them than are needed, once it is known that nothing else fits."""
    data.pixels("train", cache).image(0)
    sizes = [stat.st_size for stat in cache.files().values()]
    bounded = Cache(cache.folder.with_name("bounded"), max(sizes) + min(sizes) - 1)
    decoded.clear()
    split = data.pixels("train", bounded)
    split.image(0)
    members = data.splits["train"].members
    assert sorted(decoded) == sorted(members[: 2 * SHARD])  # the second shard does not fit
    assert len(bounded.files()) == 1
    decoded.clear()
    split.image(COUNT - 1)
    split.image(SHARD)
    split.image(SHARD - 1)
    assert decoded == [members[COUNT - 1], members[SHARD]]
    assert_right(split, data)


def test_without_a_cache_only_what_is_asked_for_is_decoded(
    data: SmallData, cache: Cache, decoded: list[str]
) -> None:
    split = data.pixels("train", off(cache))
    split.image(5)
    assert decoded == [data.splits["train"].members[5]]


def test_an_entry_that_another_process_deletes_is_decoded(data: SmallData, cache: Cache) -> None:
    split = data.pixels("train", cache)
    split.image(0)
    shutil.rmtree(cache.folder)
    assert_right(split, data)


def test_any_number_of_workers_stores_the_same_bytes(data: SmallData, tmp_path: Path) -> None:
    stored = []
    for workers in (1, 5):
        cache = Cache(tmp_path / str(workers), GIGABYTE)
        replace(data.pixels("train", cache), workers=workers).image(0)
        stored.append({path.name: path.read_bytes() for path in cache.files()})
    assert stored[0] == stored[1]


def test_several_threads_decode_each_image_once(
    data: SmallData, cache: Cache, decoded: list[str]
) -> None:
    split = data.pixels("train", cache)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(split.image, range(COUNT)))
    assert len(decoded) == COUNT
    for row, image in enumerate(found):
        assert np.array_equal(image, expected(data, "train", row))


def test_all_unreadable_images_are_named_at_once(tmp_path: Path, cache: Cache) -> None:
    data = write_small_data(tmp_path, {"train": 30})
    bad = data.splits["train"].members[3:27]
    encoded = {
        int(member[-9:-4]): b"<html>" if member in bad else jpeg(1)
        for member in data.splits["train"].members
    }
    archive = Archive(write_archive(tmp_path / "some bad.tar", encoded))
    split = replace(data.pixels("train", cache), archive=lambda: archive)
    with pytest.raises(UserError) as error:
        split.image(0)
    *named, last = str(error.value).split("; ")
    assert last == "and 14 more"
    assert [fault.split(": ")[0] for fault in named] == [
        f"{tmp_path / 'some bad.tar'}, {member}" for member in bad[:10]
    ]
    assert "\n" not in str(error.value)
    assert "not a readable image" in named[0]

    with pytest.raises(UserError, match=f"{bad[0]}: not a readable image"):
        replace(split, cache=off(cache)).image(3)


def test_the_key_is_of_all_that_determines_the_pixels(
    data: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = data.pixels("train", cache)
    key = train.key(0, 8)
    split = train.split
    assert train.key(0, 8) == key
    assert train.key(1, 9) != key
    others = [
        replace(train, preprocessing=replace(PREPROCESSING, resize=21)),
        replace(train, preprocessing=replace(PREPROCESSING, fit="pad")),
        replace(train, split=replace(split, name="val")),  # of which squares are kept
        replace(train, split=replace(split, digests=["0" * 64, *split.digests[1:]])),
        replace(train, split=replace(split, digests=split.digests[::-1])),
    ]
    assert all(other.key(0, 8) != key for other in others)
    for unseen in ({"crop": 17}, {"mean": [0.5, 0.5, 0.5]}):
        assert replace(train, preprocessing=replace(PREPROCESSING, **unseen)).key(0, 8) == key
        padded = replace(PREPROCESSING, fit="pad")
        keys = [
            replace(train, preprocessing=size).key(0, 8)
            for size in (padded, replace(padded, **unseen))  # side and colour of what is padded
        ]
        assert keys[0] != keys[1]
    val = data.pixels("val", cache)
    cropped = replace(val, preprocessing=replace(PREPROCESSING, crop=17))
    assert cropped.key(0, 8) != val.key(0, 8)
    monkeypatch.setattr(pixels.features, "version", lambda name: "another")
    assert train.key(0, 8) != key


def test_the_largest_size_is_that_of_photographs(data: SmallData, cache: Cache) -> None:
    assert data.pixels("train", cache).largest_size() == 3 * 20 * 30 * COUNTS["train"]
    assert data.pixels("val", cache).largest_size() == 3 * 16 * 16 * COUNTS["val"]
    assert data.pixels("train", cache, "pad").largest_size() == 3 * 20 * 20 * COUNTS["train"]
