"""Images that are the same or nearly the same are found, in any splits."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.base.cache import Cache
from pipeline.data.archive import Archive
from pipeline.data.pixels import Pixels, Split
from pipeline.explore import alike
from pipeline.explore.alike import identical, most_alike, pixels_digest
from tests.conftest import jpeg, write_archive
from tests.small import PREPROCESSING


def splits_of(folder: Path, contents: dict[str, list[int]], limit: int = 10**9) -> list[Pixels]:
    """Splits with images by ``contents``: two images with the same number are the same."""
    encoded: dict[int, bytes] = {}
    splits = []
    for name, numbers in contents.items():
        ids = np.arange(len(encoded), len(encoded) + len(numbers))
        for image_id, number in zip(ids.tolist(), numbers, strict=True):
            encoded[image_id] = jpeg(number, 40 + number, 40)
        digests = [hashlib.sha256(encoded[image_id]).hexdigest() for image_id in ids.tolist()]
        members = [f"jpg/image_{image_id:05d}.jpg" for image_id in ids]
        splits.append(Split(name, members, ids, np.zeros(len(ids), np.int64), digests))
    archive = Archive(write_archive(folder / "images.tar", encoded))
    cache = Cache(folder / "cache", limit)
    return [Pixels(lambda: archive, split, PREPROCESSING, cache, workers=1) for split in splits]


def test_images_with_the_same_pixels_are_grouped(tmp_path: Path) -> None:
    contents = {"train": [1, 2, 3, 1], "val": [4, 2], "test": [2, 5]}
    assert identical(splits_of(tmp_path, contents)) == [[0, 3], [1, 5, 6]]
    (tmp_path / "others").mkdir()
    assert identical(splits_of(tmp_path / "others", {"train": [1], "test": [2]})) == []


def test_the_digest_is_of_all_pixels_in_order_and_not_of_the_cache(tmp_path: Path) -> None:
    def digest(contents: list[int], name: str = "train", limit: int = 10**9) -> str:
        folder = tmp_path / f"{contents} {name} {limit}"
        folder.mkdir()
        (split,) = splits_of(folder, {name: contents}, limit)
        return pixels_digest(split)

    first = digest([1, 2, 3])
    assert len(first) == 64
    assert digest([1, 2, 3], limit=0) == first
    others = [digest([1, 2, 4]), digest([2, 1, 3]), digest([1, 2]), digest([1, 2, 3], "val")]
    assert len({first, *others}) == 5


def test_most_alike_are_those_of_the_largest_cosine_whatever_their_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alike, "BLOCK", 100)
    random = np.random.default_rng(0)
    first = random.normal(size=(5, 8)).astype(np.float32)
    second = random.normal(size=(250, 8)).astype(np.float32)
    second[240] = 3 * first[4]
    second[7] = first[1] + 0.1
    table = most_alike(torch.from_numpy(first), torch.from_numpy(second), 20)
    assert list(table) == ["train", "test", "cosine"]
    assert list(zip(table["train"], table["test"], strict=True))[:2] == [(4, 240), (1, 7)]
    assert table["cosine"][0] == 1
    units = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in (first, second)]
    every = units[0] @ units[1].T
    expected = np.sort(every.ravel())[:-21:-1]
    assert table["cosine"].to_numpy() == pytest.approx(expected, abs=1e-4)
    found = every[table["train"], table["test"]]
    assert found == pytest.approx(table["cosine"].to_numpy(), abs=1e-4)
    assert list(table.index) == list(range(20))


def test_ties_are_in_the_order_of_the_rows_and_all_pairs_may_be_few() -> None:
    same = torch.ones(2, 3)
    table = most_alike(same, same, 100)
    assert table[["train", "test"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
