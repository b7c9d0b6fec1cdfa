"""Encoded images become pixels: the ones torchvision would make."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from pipeline.base.arrays import ArrayWriter
from pipeline.base.errors import UserError
from pipeline.data.images import central_square, decode, resize
from pipeline.data.pixels import Split, pack
from pipeline.data.raw import read_archive, read_index
from pipeline.data.views import normalise
from pipeline.params import load_params
from tests.conftest import jpeg

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize("content", [b"<html>", jpeg(1)[:-300]], ids=["a web page", "cut short"])
def test_unreadable_jpeg(content: bytes) -> None:
    with pytest.raises(UserError, match=r"image_00001\.jpg: not a readable image"):
        decode(content, "jpg/image_00001.jpg")


@pytest.mark.parametrize("size", [(500, 667), (667, 500), (500, 500), (501, 752), (40, 31)])
def test_evaluation_pixels_are_torchvisions(size: tuple[int, int], tmp_path: Path) -> None:
    """Resize, CenterCrop, ToTensor and Normalize, bit for bit."""
    image = jpeg(3, *size)
    with ArrayWriter(tmp_path / "x.npy") as file:
        index = pack([(1, "x", image)], {1: "val"}, {"val": file}, 256, 224, workers=1)
    index.assign(label=0).to_csv(tmp_path / "x.csv", index=False)
    ours = normalise(Split(tmp_path, "x").central([0], 224), MEAN, STD, torch.device("cpu"))
    theirs = Compose([Resize(256), CenterCrop(224), ToTensor(), Normalize(MEAN, STD)])(decode(image, "x"))
    assert torch.equal(ours[0], theirs)


def test_resize_is_torchvisions() -> None:
    image = decode(jpeg(5, 123, 457), "x")
    assert resize(image, 100).tobytes() == Resize(100)(image).tobytes()


def test_any_number_of_workers_packs_the_same_bytes(tmp_path: Path) -> None:
    images = [(number, "x", jpeg(number, 50 + number, 80)) for number in range(30)]
    packed = []
    for workers in (1, 2, 7):
        path = tmp_path / f"{workers}.npy"
        with ArrayWriter(path) as file:
            index = pack(images, dict.fromkeys(range(30), "train"), {"train": file}, 40, 32, workers)
        packed.append((path.read_bytes(), index.to_csv()))
    assert packed[0] == packed[1] == packed[2]


def test_index_and_pixels_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(11, np.uint8))
    pd.DataFrame({"id": [1], "label": [0], "offset": [0], "height": [2], "width": [2]}).to_csv(
        tmp_path / "x.csv", index=False
    )
    with pytest.raises(UserError, match="do not fit its index"):
        Split(tmp_path, "x").image(0)


def test_central_squares_of_the_archive_are_the_pixels_that_prepare_stored(project: Path) -> None:
    test, index = Split(project / "data" / "pixels", "test"), read_index(project / "data" / "raw")
    members = dict(zip(index["member"], index["id"], strict=True))
    wanted = {member: number for member, number in members.items() if number in test.ids[[5, 0, 11]]}
    size = load_params(project / "params.yaml").transforms
    archive = read_archive(project / "data" / "raw" / "images.tar", wanted)
    squares = {number: central_square(encoded, name, size.resize, size.crop) for number, name, encoded in archive}
    assert set(squares) == set(test.ids[[5, 0, 11]])
    for row in (5, 0, 11):
        assert np.array_equal(squares[test.ids[row]], test.image(row))
