"""Drawn flowers: always the same bytes, in the form of the real files, and species that differ."""

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.images import decode
from pipeline.data.raw import read_archive, write_raw
from pipeline.sources import indexed
from pipeline.sources.drawn import draw, pretrain, species_traits, write_images
from pipeline.sources.params import DrawnBackbone, DrawnImages

PARAMS = DrawnImages(seed=1, species=3, train_per_species=2, val_per_species=1, test_per_species=2, size=32)


def write(folder: Path) -> list[Path]:
    folder.mkdir()
    index = write_images(folder / "archive", PARAMS, 2)
    write_raw(folder / "raw", folder / "archive", index, ["a", "b", "c"])
    return sorted((folder / "raw").iterdir())


def test_drawn_images_are_raw_data(tmp_path: Path) -> None:
    write(tmp_path / "a")
    archive, index, classes = indexed.read({"path": tmp_path / "a" / "raw"})
    assert classes == ["a", "b", "c"]
    assert index["split"].value_counts().to_dict() == {"train": 6, "val": 3, "test": 6}
    assert index.groupby("split")["label"].value_counts().nunique() == 2
    ids = dict(zip(index["member"], index["id"], strict=True))
    images = {number: decode(content, name) for number, name, content in read_archive(archive, ids)}
    assert sorted(images) == list(range(1, 16))
    assert {min(image.size) for image in images.values()} == {32}
    assert len({image.size for image in images.values()}) > 3


def test_another_time_and_another_folder_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [hashlib.sha256(path.read_bytes()).hexdigest() for path in write(tmp_path / "a")]
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    monkeypatch.setattr(time, "asctime", lambda *_: "Thu Jan  1 00:00:00 1970")
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in write(tmp_path / "b")] == first


def test_images_of_one_species_vary_and_species_differ_more() -> None:
    def image(species: int, number: int) -> np.ndarray:
        return draw(species_traits(1, species), np.random.default_rng(number), 48, 48).astype(float)

    def colour(species: int) -> np.ndarray:
        return np.mean([image(species, number)[16:32, 16:32].mean((0, 1)) for number in range(8)], axis=0)

    assert abs(image(0, 0) - image(0, 1)).mean() > 10
    colours = [colour(species) for species in range(6)]
    assert min(np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]) > 10


def test_pretraining_with_dropout_and_an_image_left_over_depends_on_its_seed_alone() -> None:
    sizes = {"species": 3, "images_per_species": 3, "size": 36, "crop": 32, "epochs": 1, "batch_size": 4, "threads": 1}
    params = DrawnBackbone(network="mobilenet_v3_small", seed=0, learning_rate=1e-3, **sizes)
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(pretrain(params, torch.device("cpu")))
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())
