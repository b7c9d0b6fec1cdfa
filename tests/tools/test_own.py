"""One's own images, from a folder to a table: what `make own` does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
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
def test_a_folder_of_images_becomes_a_comparison(copy: Path, tmp_path: Path, run: Run) -> None:
    images = tmp_path / "my images"
    write_images(images)
    (images / "list.txt").write_text("not an image")

    backbone = str(copy / "data" / "drawn" / "backbone")
    result = run(copy, "tools.own", str(images), backbone)
    assert result.returncode == 0, result.stdout
    assert "left out links and files that are not images (1): 'list.txt'" in result.stdout
    assert "| | feature extraction | fine-tuning |" in result.stdout
    assert "always guessing its largest class gets" in result.stdout
    model = str(copy / "own" / "models" / "fine_tuning.safetensors")
    found = run(copy, "pipeline.predict", model, str(images / "gras 🌱" / "0.png"))
    assert found.returncode == 0
    assert all(" ".join(name.split()) in found.stdout for name in COLOURS)

    again = run(copy, "tools.own", str(images), backbone)
    assert "Running stage" not in again.stdout
    (images / "gras 🌱" / "0.png").unlink()
    assert "changed deps" in run(copy / "own", "dvc", "status", "images").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "error: name your images: make own IMAGES="),
        (["nowhere"], "error: {folder}/nowhere: no such file or folder\n"),
    ],
)
def test_images_that_are_not_there_are_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tools.own", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(message.format(folder=tmp_path))
    assert result.stderr.count("\n") == 1
