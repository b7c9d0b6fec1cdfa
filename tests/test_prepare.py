"""The raw files become pixels: the ones torchvision would make, from exactly the pictures the splits name."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
from PIL import Image
from pipeline.arrays import ArrayWriter
from pipeline.flowers102 import check_splits, class_names, read_archive, read_splits
from pipeline.images import Split, decode, pack, resize
from pipeline.inputs import normalise
from pipeline.runtime import UserError
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from tests.conftest import Run

SIZES = {"train": 4, "val": 4, "test": 6}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def jpeg(number: int, width: int = 60, height: int = 44) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(content, "JPEG")
    return content.getvalue()


def write_archive(path: Path, pictures: dict[int, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for number, content in pictures.items():
            member = tarfile.TarInfo(f"jpg/image_{number:05d}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def mat_files(tmp_path: Path) -> tuple[Path, Path]:
    """14 pictures of 2 classes, 2 a class in train and val, in an order that is not that of the ids."""
    labels, splits = tmp_path / "imagelabels.mat", tmp_path / "setid.mat"
    scipy.io.savemat(labels, {"labels": np.array([[1, 2] * 7], np.uint8)})
    ids = {"trnid": [[4, 3, 2, 1]], "valid": [[5, 6, 7, 8]], "tstid": [[9, 10, 11, 12, 13, 14]]}
    scipy.io.savemat(splits, {name: np.array(value, np.uint16) for name, value in ids.items()})
    return labels, splits


def test_splits_keep_the_order_of_the_file_and_labels_start_at_zero(mat_files: tuple[Path, Path]) -> None:
    tables = read_splits(*mat_files)
    assert tables["train"].to_dict("list") == {"id": [4, 3, 2, 1], "label": [1, 0, 1, 0]}
    check_splits(tables, 2, SIZES)


@pytest.mark.parametrize(
    ("split", "column", "values", "message"),
    [
        ("train", "id", [4, 3, 2, 2], "picture 2 stands twice"),
        ("val", "id", [4, 6, 7, 8], "picture 4 stands twice"),
        ("train", "label", [0, 0, 0, 1], "1 to 3 train pictures a class"),
        ("test", "label", [0] * 6, "the test pictures show 1 classes"),
        (
            "test",
            "label",
            [0, 1, 2, 0, 1, 2],
            "the test pictures show 3 classes with labels 0..2, but dataset.classes = 2",
        ),
    ],
)
def test_splits_that_break_a_promise_are_refused(
    mat_files: tuple[Path, Path], split: str, column: str, values: list[int], message: str
) -> None:
    tables = read_splits(*mat_files)
    tables[split][column] = values
    with pytest.raises(UserError, match=message):
        check_splits(tables, 2, SIZES)


def test_splits_of_another_size_are_refused(mat_files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"4 train pictures, but dataset\.train = 5"):
        check_splits(read_splits(*mat_files), 2, SIZES | {"train": 5})


def test_what_is_no_matlab_file_is_named(tmp_path: Path, mat_files: tuple[Path, Path]) -> None:
    page = tmp_path / "page.mat"
    page.write_text("<html>502 Bad Gateway</html>")
    with pytest.raises(UserError, match=r"page\.mat: not the expected MATLAB file"):
        read_splits(page, mat_files[1])


def test_archive_with_too_few_pictures(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "few.tgz", {1: b"a", 3: b"b"})
    with pytest.raises(UserError, match=r"holds 2 of the 3 pictures .*image_00002\.jpg is missing"):
        list(read_archive(archive, {1, 2, 3}))


@pytest.mark.parametrize("damage", ["truncated", "not gzip"])
def test_damaged_archive(tmp_path: Path, damage: str) -> None:
    content = write_archive(tmp_path / "whole.tgz", {n: jpeg(n) for n in range(1, 9)}).read_bytes()
    path = tmp_path / "bad.tgz"
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else gzip.decompress(content)[:700])
    with pytest.raises(UserError, match=r"bad\.tgz: cannot be read as \.tgz"):
        list(read_archive(path, set(range(1, 9))))


@pytest.mark.parametrize("content", [b"<html>", jpeg(1)[:-300]], ids=["a web page", "cut short"])
def test_unreadable_jpeg(content: bytes) -> None:
    with pytest.raises(UserError, match=r"image_00001\.jpg: not a readable picture"):
        decode(content, "jpg/image_00001.jpg")


def test_stage_with_an_unreadable_jpeg_writes_nothing(project: Path, run: Run) -> None:
    archive = project / "data" / "raw" / "102flowers.tgz"
    original = archive.read_bytes()
    prepared = {path.name: path.read_bytes() for path in (project / "data" / "pixels").iterdir()}
    try:
        pictures = {number: content for number, _, content in read_archive(archive, set(range(1, 37)))}
        archive.unlink()
        write_archive(archive, pictures | {20: b"\xff\xd8 damaged"})
        result = run(project, "stages.prepare")
    finally:
        archive.write_bytes(original)
    assert result.returncode == 1
    assert "error: data/raw/102flowers.tgz, jpg/image_00020.jpg: not a readable picture" in result.stdout
    assert "Traceback" not in result.stdout
    assert {path.name: path.read_bytes() for path in (project / "data" / "pixels").iterdir()} == prepared


@pytest.mark.parametrize("size", [(500, 667), (667, 500), (500, 500), (501, 752), (40, 31)])
def test_evaluation_pixels_are_torchvisions(size: tuple[int, int], tmp_path: Path) -> None:
    """Resize, CenterCrop, ToTensor and Normalize, bit for bit."""
    picture = jpeg(3, *size)
    with ArrayWriter(tmp_path / "x.npy") as file:
        index = pack([(1, "x", picture)], lambda _: 224, lambda _: file, 256, workers=1)
    index.assign(label=0).to_csv(tmp_path / "x.csv", index=False)
    ours = normalise(Split(tmp_path, "x").central([0], 224), MEAN, STD, torch.device("cpu"))
    theirs = Compose([Resize(256), CenterCrop(224), ToTensor(), Normalize(MEAN, STD)])(decode(picture, "x"))
    assert torch.equal(ours[0], theirs)


def test_resize_is_torchvisions() -> None:
    image = decode(jpeg(5, 123, 457), "x")
    assert resize(image, 100).tobytes() == Resize(100)(image).tobytes()


def test_any_number_of_workers_packs_the_same_bytes(tmp_path: Path) -> None:
    pictures = [(number, "x", jpeg(number, 50 + number, 80)) for number in range(30)]
    packed = []
    for workers in (1, 2, 7):
        path = tmp_path / f"{workers}.npy"
        with ArrayWriter(path) as file:
            index = pack(pictures, lambda _: None, lambda _: file, 40, workers)
        packed.append((path.read_bytes(), index.to_csv()))
    assert packed[0] == packed[1] == packed[2]


def test_index_and_pixels_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(11, np.uint8))
    pd.DataFrame({"id": [1], "label": [0], "offset": [0], "height": [2], "width": [2]}).to_csv(tmp_path / "x.csv")
    with pytest.raises(UserError, match="do not fit its index"):
        Split(tmp_path, "x").image(0)


def test_class_names_are_the_english_ones() -> None:
    names = class_names("flowers102", 102)
    assert (names[0], names[101]) == ("pink primrose", "blackberry lily")
    with pytest.raises(UserError, match="say numbered"):
        class_names("flowers102", 20)
