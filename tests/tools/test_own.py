"""One's own images, from a folder to a table: what `make own` does."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import UserError
from pipeline.params import Params, read_yaml
from tests.conftest import BACKBONE, Run
from tools.merge import layer, merge
from tools.own import EFFORTS, changes_for, changes_of, main, moves, reasons, rows_of
from tools.sandbox import PROJECT

COLOURS = {"red 'roses'": (200, 30, 40), "blue\nbells": (40, 60, 200), "gras 🌱": (30, 160, 50)}


def write_images(folder: Path) -> None:
    """A folder for each class with 20 images of 50 x 40 pixels around its colour."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(20):
            noise = random.normal(0, 40, (40, 50, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.slow
@pytest.mark.pipeline
def test_a_folder_of_images_becomes_a_comparison(copy: Path, run: Run) -> None:
    images = copy / "my images"  # in the project, where many put it
    write_images(images)
    (images / "list.txt").write_text("not an image")

    backbone = str(copy / BACKBONE)
    result = run(copy, "tools.own", str(images), backbone)
    assert result.returncode == 0, result.stdout
    said, _, done = result.stdout.partition("Running stage")
    assert f"images:  60, 1 MB, in {images}\n" in said
    assert "time:    about " in said
    assert "disk:    " in said
    assert "memory:  " in said
    assert "| | feature extraction | fine-tuning |" in done
    assert "always guessing its largest class gets" in done
    assert not (copy / "own" / "my images").exists()

    # The end: which approach, how sure, what is missing, and commands to paste.
    assert "\nUse feature extraction, the smallest change: " in done
    assert "cannot show that another approach is better (fine-tuning: " in done
    assert "Left out: 1 files; own/report/left_out.csv says which, and why.\n" in done
    predict, _, change = result.stdout.splitlines()[-3:]
    assert str(images) in shlex.split(predict)[-1]
    found = run(copy, *shlex.split(predict)[2:])
    assert found.returncode == 0
    assert all(" ".join(name.split()) in found.stdout for name in COLOURS)
    assert change.strip() == "(cd own && dvc exp run -S train.epochs=4 && dvc metrics diff)"

    # A second time nothing runs; an edit of a person's, and their experiments, stay.
    head = run_git(copy / "own", "rev-parse", "HEAD")
    experiment = run(copy / "own", "dvc", "exp", "run", "-S", "plots.dpi=41")
    assert experiment.returncode == 0, experiment.stdout
    listed = run(copy / "own", "dvc", "exp", "list").stdout
    again = run(copy, "tools.own", str(images), backbone)
    assert "Running stage" not in again.stdout
    assert "own/ keeps what was changed there: 'params.yaml'" in again.stdout
    assert read_yaml(copy / "own" / "params.yaml")["plots"]["dpi"] == 41
    assert run(copy / "own", "dvc", "exp", "list").stdout == listed
    assert run_git(copy / "own", "rev-parse", "HEAD") == head
    (images / "gras 🌱" / "0.png").unlink()
    assert "changed deps" in run(copy / "own", "dvc", "status", "images").stdout

    quick = run(copy, "tools.own", str(images), backbone, "--effort", "quick")
    assert quick.returncode == 0, quick.stdout
    assert "Running stage 'train@fine_tuning'" not in quick.stdout
    assert "no other approach was run (EFFORT=article runs two)" in quick.stdout
    assert read_yaml(copy / "own" / "params.yaml")["plots"]["dpi"] == 41


def run_git(directory: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True).stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "name your images: make own IMAGES="),
        (["", "", "--effort", ""], "name your images: make own IMAGES="),
        (["nowhere"], "{folder}/nowhere: no such file or folder"),
        ([".", "nowhere"], "{folder}/nowhere: no such file or folder"),
        (
            [".", "--effort", "best"],
            "EFFORT=best: it can be quick, article, strong",
        ),
        (
            [str(PROJECT)],
            f"{PROJECT}: this project lies in it; put the images into a folder of their own",
        ),
    ],
)
def test_what_cannot_be_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["own", *arguments])
    with pytest.raises(UserError) as error:
        main()
    assert str(error.value).startswith(message.format(folder=tmp_path))
    assert "\n" not in str(error.value)


def test_make_passes_any_name_on(tmp_path: Path) -> None:
    name = """it's "50 %" of `my` $HOME; photos"""
    (tmp_path / "ready").touch()  # so that make sets up no environment
    images = f"IMAGES={name.replace('$', '$$')}"
    result = subprocess.run(
        ["make", "own", images, f"VENV={tmp_path}"],
        cwd=PROJECT,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert f"error: {PROJECT / name}: no such file or folder\n" in result.stderr


# What one's own images change in params.yaml.


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("has_backbone", [False, True])
def test_params_with_the_changes_are_valid(effort: str, has_backbone: bool) -> None:
    base = read_yaml(PROJECT / "params.yaml")
    backbone = Path("/weights.pth") if has_backbone else None
    changes = changes_for(Path("/photos"), backbone)
    if more := EFFORTS[effort]:
        changes = layer(changes, read_yaml(PROJECT / more))
    params = Params.model_validate(merge(base, changes))
    assert (params.images.source, params.images.path) == ("folder", "/photos")
    assert list(params.download) == ([] if has_backbone else ["backbone"])
    assert (params.backbone.path == "/weights.pth") == has_backbone
    expected = {
        "quick": ["feature_extraction"],
        "article": ["feature_extraction", "fine_tuning"],
        "strong": ["feature_extraction", "fine_tuning", "strong_fine_tuning"],
    }
    assert list(params.approaches) == expected[effort]


@pytest.mark.parametrize(("images", "epochs"), [(10, 60), (1020, 15), (8000, 3)])
def test_quick_takes_as_many_steps_as_the_article_and_keeps_the_best_epoch(
    tmp_path: Path, images: int, epochs: int
) -> None:
    for split, count in {"train": images, "val": 50, "test": 50}.items():
        (tmp_path / split / "a").mkdir(parents=True)
        for number in range(count):
            (tmp_path / split / "a" / f"{number}.jpg").touch()
    changes = changes_of("quick", tmp_path)
    assert changes["train"]["keep"] == "best"
    assert changes["train"]["epochs"] == pytest.approx(epochs, abs=1)
    assert changes_of("article", tmp_path) == {}


@pytest.mark.parametrize("name", ["labels.csv", "labels.TSV", "metadata.jsonl"])
def test_a_table_is_taken_with_the_images_beside_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    section = changes_for(tmp_path / name)["images"]
    assert section == {"source": "folder", "path": str(tmp_path), "table": name}
    (tmp_path / "photos.zip").touch()
    assert changes_for(tmp_path / "photos.zip")["images"]["path"] == f"{tmp_path}/photos.zip"


@pytest.mark.parametrize("place", [PROJECT, PROJECT.parent])
def test_a_folder_around_the_project_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="this project lies in it"):
        changes_for(place)


# What came out.


def row(name: str, trainable: int, accuracy: float) -> dict[str, Any]:
    return {
        "approach": name,
        "trainable": trainable,
        "n_test": 1000,
        "test_accuracy": accuracy,
        "test_accuracy_low": accuracy - 0.02,
        "test_accuracy_high": accuracy + 0.02,
    }


def pair(first: str, second: str, difference: float) -> dict[str, Any]:
    interval = {"difference": difference, "low": difference - 0.02, "high": difference + 0.02}
    return {"first": first, "second": second} | interval


ROWS = [row("fine_tuning", 900, 0.9), row("feature_extraction", 10, 0.8)]


def test_an_approach_that_is_surely_better_is_named_with_its_gain() -> None:
    lines = reasons("fine_tuning", ROWS, [pair("feature_extraction", "fine_tuning", 0.1)])
    assert lines == [
        "Use fine-tuning: on 1,000 test images it is better than feature extraction "
        "(+10.0 points, 95 % interval +8.0 to +12.0).",
        "Its accuracy on 1,000 test images: 90.0% (95 % interval 88.0% to 92.0%).",
    ]
    # The other way round in the table, it is the same difference.
    reverse = [pair("fine_tuning", "feature_extraction", -0.1)]
    assert reasons("fine_tuning", ROWS, reverse) == lines


def test_without_a_sure_difference_the_smallest_change_is_named() -> None:
    pairs = [pair("feature_extraction", "fine_tuning", 0.01)]
    first, _ = reasons("feature_extraction", ROWS, pairs)
    assert "cannot show that another approach is better (fine-tuning: +1.0 points" in first


def test_rows_are_counted_where_there_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "left_out.csv"
    assert rows_of(path) == 0
    path.write_text("file,reason\n")
    assert rows_of(path) == 0
    path.write_text('file,reason\na,"no\nimage"\nb,empty\n')
    assert rows_of(path) == 2


def test_what_changed_since_the_last_run_is_said() -> None:
    before = {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}
    assert not moves({}, before)
    assert not moves(before, before)
    after = {"a.jpg": "train", "b.jpg": "train", "d.jpg": "val"}
    assert moves(before, after) == [
        "Since the last run: 1 images are new, 1 are gone, 1 are in another split: "
        "'b.jpg (val to train)'."
    ]
