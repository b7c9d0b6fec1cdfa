"""One's own images, from a folder to a table: what `make own` does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run

COLOURS = {"red 'roses'": (200, 30, 40), "blue\nbells": (40, 60, 200), "gras 🌱": (30, 160, 50)}


@pytest.mark.slow
def test_a_folder_of_images_becomes_a_comparison(copy: Path, tmp_path: Path, run: Run) -> None:
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "my images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(np.array(colour) + random.normal(0, 40, (40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my images" / name / f"{number}.png")
    (tmp_path / "my images" / "list.txt").write_text("not an image")

    backbone = str(copy / "data" / "drawn" / "backbone")
    result = run(copy, "tools.own", str(tmp_path / "my images"), backbone)
    assert result.returncode == 0, result.stdout
    assert "left out, as links or no images (1): 'list.txt'" in result.stdout
    assert "| | feature extraction | fine-tuning |" in result.stdout
    assert "always guessing its largest class gets" in result.stdout
    model = str(copy / "own" / "models" / "fine_tuning.safetensors")
    found = run(copy, "pipeline.predict", model, str(tmp_path / "my images" / "gras 🌱" / "0.png"))
    assert found.returncode == 0
    assert all(" ".join(name.split()) in found.stdout for name in COLOURS)

    again = run(copy, "tools.own", str(tmp_path / "my images"), backbone)
    assert "Running stage" not in again.stdout
    (tmp_path / "my images" / "gras 🌱" / "0.png").unlink()
    assert "changed deps" in run(copy / "own", "dvc", "status", "images").stdout


def test_images_that_are_not_there_are_one_line(copy: Path, run: Run) -> None:
    for arguments, message in {
        ("",): "error: name your images",
        ("nowhere",): f"error: {copy}/nowhere: no such",
    }.items():
        result = run(copy, "tools.own", *arguments)
        assert result.returncode == 1
        assert result.stdout.startswith(message)
        assert result.stdout.count("\n") == 1
