"""One pass over the images: digests of their pixels, sizes, and what is measured of them."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.base.cache import Cache
from pipeline.data.archive import Archive
from pipeline.data.images import Preprocessing
from pipeline.data.pixels import Pixels, Split
from pipeline.explore.survey import COLUMNS, Survey, measure, original_size, survey, without_canvas
from tests.conftest import jpeg, write_archive
from tests.small import PREPROCESSING


def surveyed(
    folder: Path, numbers: list[int], name: str = "train", limit: int = 10**9, workers: int = 2
) -> Survey:
    """The survey of a split with images by ``numbers``: two with the same number are the same."""
    folder.mkdir()
    encoded = {place: jpeg(number, 40 + number, 40) for place, number in enumerate(numbers)}
    digests = [hashlib.sha256(content).hexdigest() for content in encoded.values()]
    members = [f"jpg/image_{place:05d}.jpg" for place in encoded]
    ids = np.arange(len(numbers))
    split = Split(name, members, ids, np.zeros(len(ids), np.int64), digests)
    archive = Archive(write_archive(folder / "images.tar", encoded))
    cache = Cache(folder / "cache", limit)
    pixels = Pixels(lambda: archive, split, PREPROCESSING, cache, workers)
    return survey(pixels, workers)


def square(number: int = 0) -> Image.Image:
    """A coloured image with edges."""
    return Image.open(io.BytesIO(jpeg(number, 96, 96))).convert("RGB")


def measured(image: Image.Image) -> dict[str, float]:
    names = ("brightest", "darkest", "sharpness", "colour")
    return dict(zip(names, measure(np.asarray(image)), strict=True))


def test_each_image_has_a_row_with_the_size_of_its_file(tmp_path: Path) -> None:
    found = surveyed(tmp_path / "a", [3, 1, 3])
    assert list(found.measures) == COLUMNS
    assert found.measures["width"].tolist() == [43, 41, 43]
    assert found.measures["height"].tolist() == [40, 40, 40]


def test_images_of_the_same_pixels_have_the_same_square(tmp_path: Path) -> None:
    first, second, third = surveyed(tmp_path / "a", [3, 1, 3]).squares
    assert first == third
    assert first != second


def test_the_digest_is_of_all_pixels_in_order_and_not_of_the_cache(tmp_path: Path) -> None:
    first = surveyed(tmp_path / "a", [1, 2, 3]).pixels_sha256
    assert len(first) == 64
    assert surveyed(tmp_path / "b", [1, 2, 3], limit=0, workers=1).pixels_sha256 == first
    others = [
        surveyed(tmp_path / "c", [1, 2, 4]),
        surveyed(tmp_path / "d", [2, 1, 3]),
        surveyed(tmp_path / "e", [1, 2]),
        surveyed(tmp_path / "f", [1, 2, 3], name="val"),
    ]
    assert len({first, *(other.pixels_sha256 for other in others)}) == 5


def test_nothing_is_decoded_for_a_size() -> None:
    content = jpeg(0, 600, 400)
    assert original_size(content[:2000]) == (600, 400)


def test_known_colours_are_measured_exactly() -> None:
    image = Image.new("RGB", (40, 40), (255, 51, 102))
    image.paste((0, 0, 0), (0, 0, 40, 12))  # three rows of ten
    assert measured(image) == {
        "brightest": 1.0,
        "darkest": 0.0,
        "sharpness": pytest.approx(measured(image)["sharpness"]),
        "colour": 0.8,
    }
    assert measured(image)["sharpness"] > 0
    plain = measured(Image.new("RGB", (40, 40), (102, 102, 102)))
    assert plain == {"brightest": 0.4, "darkest": 0.4, "sharpness": 0.0, "colour": 0.0}


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.asarray(square().convert("L"), np.float64)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    expected = np.var(around - 4 * grey[1:-1, 1:-1])
    assert measured(square())["sharpness"] == pytest.approx(expected)
    blurred = measured(square().filter(ImageFilter.GaussianBlur(3)))["sharpness"]
    assert blurred < expected / 2


def test_a_few_pixels_of_another_kind_do_not_count() -> None:
    image = Image.new("RGB", (400, 400), (20, 20, 20))
    image.paste((255, 0, 0), (0, 0, 40, 40))  # one in a hundred
    found = measured(image)
    assert found["brightest"] == found["darkest"] == pytest.approx(20 / 255)
    assert found["colour"] == 0


def test_a_canvas_around_an_image_is_not_measured() -> None:
    padded = Preprocessing(resize=50, crop=40, mean=[0.5, 0.4, 0.3], std=[0.2] * 3, fit="pad")
    canvas = Image.new("RGB", (40, 40), padded.canvas)
    canvas.paste((9, 9, 9), (0, 10, 40, 30))
    part = without_canvas(np.asarray(canvas), padded)
    assert part.shape == (20, 40, 3)
    assert (part == 9).all()
    assert without_canvas(np.asarray(canvas), replace(padded, fit="crop")).shape == (40, 40, 3)
    empty = np.asarray(Image.new("RGB", (40, 40), padded.canvas))
    assert without_canvas(empty, padded).shape == (40, 40, 3)


def test_the_smallest_image_is_measured() -> None:
    assert measured(Image.new("RGB", (1, 2), (0, 0, 0)))["sharpness"] == 0
