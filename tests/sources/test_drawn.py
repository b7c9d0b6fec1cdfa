"""Drawn flowers: always the same bytes, in the form of raw data, and species that differ."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.archive import Archive
from pipeline.data.images import decode
from pipeline.data.raw import RawData, write_raw
from pipeline.params import DrawnImages, Images, Shares
from pipeline.sources import indexed
from pipeline.sources.drawn import draw_image, draw_species, write_images
from tools.sandbox import PROJECT

PARAMS = DrawnImages(
    seed=1, species=3, train_per_species=2, val_per_species=1, test_per_species=2, size=32
)


def test_drawn_images_are_raw_data(tmp_path: Path) -> None:
    drawn = write_images(tmp_path / "archive", PARAMS, workers=2)
    write_raw(tmp_path / "raw", RawData(tmp_path / "archive", drawn, ["a", "b", "c"]))
    split = Shares(val=0.1, test=0.1, seed=0)
    images = Images(source="indexed", path=str(tmp_path / "raw"), split=split)
    raw = indexed.read(images, tmp_path / "unused", print)

    assert raw.classes == ["a", "b", "c"]
    assert raw.index.equals(drawn)
    assert raw.index["id"].is_unique
    for name, count in {"train": 2, "val": 1, "test": 2}.items():
        labels = raw.index["label"][raw.index["split"] == name]
        assert labels.value_counts().to_dict() == dict.fromkeys(range(3), count)
    with Archive(raw.archive) as archive:
        sizes = [decode(archive.read(name), name).size for name in raw.index["member"]]
    assert {min(size) for size in sizes} == {32}
    assert len(set(sizes)) > 3


def test_the_bytes_depend_on_nothing_but_the_params(tmp_path: Path) -> None:
    """In particular not on the number of threads, on the clock or on the user."""
    digests = set()
    for workers in (1, 3):
        path = tmp_path / f"{workers}.tar"
        write_images(path, PARAMS, workers)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
    assert len(digests) == 1


def test_images_of_one_species_vary_and_species_differ_more() -> None:
    def image(species: int, number: int) -> np.ndarray:
        random = np.random.default_rng(number)
        return draw_image(draw_species(1, species), random, 48, 48).astype(float)

    def mean_colour(species: int) -> np.ndarray:
        centres = [image(species, number)[16:32, 16:32] for number in range(8)]
        return np.mean(centres, axis=(0, 1, 2))

    assert abs(image(0, 0) - image(0, 1)).mean() > 10
    colours = [mean_colour(species) for species in range(6)]
    for place, colour in enumerate(colours):
        for other in colours[:place]:
            assert abs(colour - other).max() > 10


# Brightness of 4 x 4 parts of an image, by species and number: how the flowers have always looked.
BRIGHTNESS = {
    (0, 0): [[99, 78, 64, 72], [97, 103, 107, 84], [103, 132, 111, 82], [84, 85, 87, 75]],
    (1, 1): [[44, 36, 15, 21], [42, 53, 49, 28], [48, 85, 71, 30], [52, 71, 38, 19]],
    (2, 2): [[66, 73, 71, 56], [96, 116, 126, 140], [117, 125, 138, 93], [102, 64, 60, 62]],
}


@pytest.mark.parametrize("species", BRIGHTNESS)
def test_flowers_look_as_they_always_did(species: tuple[int, int]) -> None:
    """Within rounding: the figures of the demo depend on it."""
    random = np.random.default_rng(species[1])
    image = draw_image(draw_species(1, species[0]), random, 64, 64)
    parts = Image.fromarray(image).convert("L").resize((4, 4), Image.Resampling.BOX)
    np.testing.assert_allclose(np.asarray(parts).astype(int), BRIGHTNESS[species], atol=1)


def test_drawing_images_does_not_import_torch() -> None:
    code = "import sys, stages.draw; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
