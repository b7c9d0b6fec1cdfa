"""What a run will need is said before it starts."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import UserError
from pipeline.params import Params, load_params, read_yaml
from tests.conftest import TINY, jpeg
from tests.stages.test_full_disk import mount
from tools import estimate
from tools.estimate import Survey, duration, forecast, gigabytes, is_finished, survey
from tools.merge import merge
from tools.sandbox import PROJECT
from tools.speed import PartRate, Rates, Speed, measure

NAMES = [
    f"{split}/{label}/{i}.jpg" for split in ("train", "test") for label in "ab" for i in (1, 2)
]
OTHERS = ["train/list.txt", "train/a/.hidden.jpg", "__MACOSX/train/a/1.jpg"]


def write_folder(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(number))


@pytest.fixture(params=["folder", "zip", "tar", "tar.gz"])
def images(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Eight images, half of them for training, and other files."""
    folder = tmp_path / "photos"
    write_folder(folder, NAMES + OTHERS)
    path = tmp_path / f"photos.{request.param}"
    if request.param == "folder":
        return folder
    if request.param == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in NAMES + OTHERS:
                archive.write(folder / name, name)
        return path
    with tarfile.open(path, "w:gz" if request.param == "tar.gz" else "w") as tar:
        tar.add(folder, "photos")
    return path


def test_images_are_counted_by_their_names(images: Path) -> None:
    found = survey(images)
    assert found.count == 8
    assert found.size == sum(len(content) for content in map(jpeg, range(8)))
    assert found.said == {"train": 0.5, "test": 0.5}
    assert sorted(found.samples) == sorted(map(jpeg, range(8)))


def test_many_large_images_are_counted_without_reading_them(tmp_path: Path) -> None:
    """Ten terabytes, in files that have holes in place of bytes."""
    for number in range(2_000):
        with (tmp_path / f"{number}.jpg").open("wb") as file:
            file.truncate(5 * 10**9)
    begin = time.monotonic()
    found = survey(tmp_path)
    assert (found.count, found.size, found.samples) == (2_000, 10**13, [])
    assert time.monotonic() - begin < 20


def test_of_a_large_compressed_archive_a_part_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz", compresslevel=1) as tar:
        for number in range(600):
            member = tarfile.TarInfo(f"a/{number}.jpg")
            member.size = 100_000
            tar.addfile(member, io.BytesIO(os.urandom(member.size)))
    monkeypatch.setattr(estimate, "LOOK", 0.05)
    found = survey(tmp_path / "photos.tar.gz")
    assert 500 < found.count < 700
    assert 5 * 10**7 < found.size < 7 * 10**7


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos.7z").write_bytes(b"7z")
    with pytest.raises(UserError, match=r"photos.7z: cannot be read as a folder, zip or tar file"):
        survey(tmp_path / "photos.7z")


# What follows from the measurement.

FROZEN = PartRate("layer3", seconds=0.01, values=200_000)
POOLED = PartRate("avgpool", seconds=0.002, values=2_000)
SPEED = Speed(
    decode={256: 0.005},
    rates={
        "feature_extraction": Rates([FROZEN, POOLED], step=0.0001, rest=0.0001),
        "fine_tuning": Rates([FROZEN], step=0.02, rest=0.003),
    },
    backbone=Rates([FROZEN, POOLED], step=0.0, rest=0.0001),
    weights=45_000_000,
    memory=10**9,
    keeps_outputs=True,
)


@pytest.fixture
def params() -> Params:
    """Those of the project: two approaches of 15 epochs, 15 % val, 15 % test."""
    return load_params(PROJECT / "params.yaml")


def test_approaches_share_what_is_frozen(params: Params) -> None:
    images = Survey(1000, 10**8)
    both = forecast(params, images, SPEED, start=0.0).seconds
    quick = merge(params.model_dump(exclude_unset=True), {"approaches": {"fine_tuning": None}})
    quick = merge(quick, {"published": {"fine_tuning": None}})
    one = forecast(Params.model_validate(quick), images, SPEED, start=0.0).seconds
    # Of fine-tuning only what it trains: 15 epochs of 700 images, and of 150 to validate; then 300
    # to evaluate. And two stages.
    trained = 15 * (700 * 0.02 + 150 * 0.003) + 300 * 0.003
    assert both - one == pytest.approx(trained + 2 * estimate.STAGE)
    # Of feature extraction, frozen layers once for each view, validation once.
    frozen = 0.012 * (15 * 700 + 150)
    assert one == pytest.approx(frozen, rel=0.5)
    assert one > frozen


def test_what_cannot_be_kept_is_computed_again(params: Params) -> None:
    images = Survey(1000, 10**8)
    kept = forecast(params, images, SPEED, start=0.0)
    without = merge(params.model_dump(exclude_unset=True), {"runtime": {"cache": 0.0}})
    again = forecast(Params.model_validate(without), images, SPEED, start=0.0)
    assert again.seconds > kept.seconds + 15 * 700 * FROZEN.seconds
    assert again.cache == 0
    # 2.1 GB of outputs of 15 epochs, 0.1 GB of the others, 0.3 GB of pixels.
    assert 2.3e9 < kept.cache < 2.6e9


def test_disk_is_for_raw_data_and_models_twice(params: Params) -> None:
    few = forecast(params, Survey(1000, 10**8), SPEED, start=0.0)
    many = forecast(params, Survey(3000, 10**9), SPEED, start=0.0)
    assert many.disk - few.disk == 2 * (9 * 10**8 + 2000 * estimate.ENTRY)
    assert few.disk > 2 * (10**8 + 3 * SPEED.weights)
    assert many.cache == 5.5e9  # the bound


@pytest.mark.parametrize(
    ("said", "train", "val", "test"),
    [
        ({}, 700, 150, 150),
        ({"train": 0.4, "test": 0.6}, 340, 60, 600),
        ({"train": 0.2, "val": 0.1, "test": 0.6, "unlabelled": 0.1}, 200, 100, 700),
        ({"train": 0.3}, 700, 150, 150),  # of vehicles, one class is called train
    ],
)
def test_folders_say_how_many_images_a_split_has(
    said: dict[str, float], train: float, val: float, test: float, params: Params
) -> None:
    """What they do not say is drawn, 15 % each."""
    counts = Survey(1000, 10**8, said).counts(params.images.split)
    assert [counts.train, counts.val, counts.test] == pytest.approx([train, val, test])


def test_every_approach_is_measured() -> None:
    """With a small network: decoding takes time, and so does what is frozen and what is trained."""
    values = merge(read_yaml(PROJECT / "params.yaml"), TINY)
    speed = measure(Params.model_validate(values), [jpeg(0), b"no image"])
    assert list(speed.rates) == ["feature_extraction", "fine_tuning"]
    assert speed.decode.keys() == {36}
    extraction, tuning = speed.rates.values()
    assert len(extraction.parts) == 2  # up to where fine-tuning begins, and up to the head
    assert extraction.parts[0].name == tuning.parts[0].name
    every = [*extraction.parts, *tuning.parts, *speed.backbone.parts]
    assert all(part.seconds > 0 and part.values > 0 for part in every)
    assert tuning.step > extraction.step > 0
    assert speed.weights > 10**6
    assert speed.memory > 10**8


# What people are told.


def test_numbers_are_for_people() -> None:
    assert [gigabytes(size) for size in (1, 5 * 10**7, 10**8, 1.24e9)] == [
        "1 MB",
        "50 MB",
        "0.1 GB",
        "1.2 GB",
    ]
    assert [duration(seconds) for seconds in (5, 61, 5_900, 9_000)] == [
        "1 minute",
        "2 minutes",
        "99 minutes",
        "2.5 hours",
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Less than models take twice."""
    (tmp_path / "disk").mkdir()
    mount(tmp_path / "disk", "size=40m")
    yield tmp_path / "disk"
    subprocess.run(["umount", "--lazy", str(tmp_path / "disk")], check=True)


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_refused_in_one_line(small_disk: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", NAMES)
    values = merge(read_yaml(PROJECT / "params.yaml"), TINY)
    values["images"] |= {"source": "folder", "path": str(tmp_path / "photos")}
    text = Params.model_validate(values).model_dump_json(exclude_unset=True)
    (small_disk / "params.yaml").write_text(text)  # JSON is YAML
    result = subprocess.run(
        [sys.executable, "-m", "tools.estimate", str(small_disk)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stdout.startswith(f"images:  8, 1 MB, in {tmp_path / 'photos'}\ntime:    about ")
    assert result.stderr.startswith(f"error: {small_disk}: the disk has ")
    assert result.stderr.count("\n") == 1


def test_a_run_that_is_finished_is_known_by_dvcs_record(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "images": {"path": "photos"},
        "train": {"epochs": 2},
        "approaches": {"a": {"learning_rates": {"fc": 0.1}}},
    }
    recorded = {
        "images": {"images": values["images"]},
        "train@a": {"approaches.a": values["approaches"]["a"], "train": values["train"]},
        "report": {"approaches": values["approaches"], "train": values["train"]},
    }
    stages = {name: {"params": {"params.yaml": params}} for name, params in recorded.items()}

    def write(name: str, content: object) -> None:
        (tmp_path / name).write_text(json.dumps(content))

    write("params.yaml", values)
    assert not is_finished(tmp_path)
    write("dvc.lock", {"stages": stages})
    assert is_finished(tmp_path)
    for key, change in {
        "images": {"path": "x"},
        "train": {"epochs": 3},
        "approaches": {"b": {}},
    }.items():
        write("params.yaml", values | {key: change})
        assert not is_finished(tmp_path)
