"""Drawn flowers: always the same bytes, in the form of the real files, and species that differ."""

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
from pipeline.flowers102 import check_splits, read_archive, read_splits
from pipeline.images import decode
from pipeline.synthetic import draw, species_traits, write_flowers

from pipeline.params import SyntheticFlowers
from tools.sandbox import merge

PARAMS = SyntheticFlowers(seed=1, species=3, train_per_species=2, val_per_species=1, test_per_species=2, size=32)


def write(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / name for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat")]
    write_flowers(paths[0], paths[1], paths[2], PARAMS, progress=lambda items: items)
    return paths


def test_files_are_read_as_the_real_ones(tmp_path: Path) -> None:
    archive, labels, splits = write(tmp_path / "a")
    tables = read_splits(labels, splits)
    check_splits(tables, 3, {"train": 6, "val": 3, "test": 6})
    pictures = {number: decode(content, name) for number, name, content in read_archive(archive, set(range(1, 16)))}
    assert len(pictures) == 15
    assert {min(picture.size) for picture in pictures.values()} == {32}
    assert len({picture.size for picture in pictures.values()}) > 3


def test_another_time_and_another_folder_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [hashlib.sha256(path.read_bytes()).hexdigest() for path in write(tmp_path / "a")]
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    monkeypatch.setattr(time, "asctime", lambda *_: "Thu Jan  1 00:00:00 1970")
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in write(tmp_path / "b")] == first


def test_pictures_of_one_species_vary_and_species_differ_more() -> None:
    def picture(species: int, number: int) -> np.ndarray:
        return draw(species_traits(1, species), np.random.default_rng(number), 48, 48).astype(float)

    def colour(species: int) -> np.ndarray:
        return np.mean([picture(species, number)[16:32, 16:32].mean((0, 1)) for number in range(8)], axis=0)

    assert abs(picture(0, 0) - picture(0, 1)).mean() > 10
    colours = [colour(species) for species in range(6)]
    assert min(np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]) > 10


def test_params_are_merged_key_by_key_and_null_removes() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merge(base, {"a": {"x": 5, "y": None}, "c": {}}) == {"a": {"x": 5}, "b": 3, "c": {}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}
