"""What `make cache` says of .cache/."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.base.cache import GIGABYTE, Cache
from tests.conftest import Run
from tools.cache import Content, gigabytes, group_files, table


def frozen_key(seed: int, epoch: int) -> dict[str, object]:
    views = {"resize": 256, "crop": 224, "side": 224, "seed": seed, "epoch": epoch}
    return {"views": views, "precision": "bf16"}


def test_files_are_grouped_by_what_they_hold(tmp_path: Path) -> None:
    cache = Cache(tmp_path, GIGABYTE)
    pixels = np.zeros(3_000_000, np.uint8)
    for images in ("a", "b"):
        cache.put("pixels", {"images": images, "resize": 256, "crop": 224}, pixels, [[1000, 1000]])
    for seed in (0, 1):
        for epoch in (1, 2, 3):
            note = {"epoch": epoch, "split": "train", "module": "layer3"}
            cache.put("frozen", frozen_key(seed, epoch), np.zeros(1000), note)
    (tmp_path / "frozen" / "damaged").write_text("not JSON")

    groups = group_files(cache)
    layers = Content("layers up to layer3", "train, random crops", "224 of 256", "bf16")
    squares = Content("pixels", "central squares", "224 of 256")
    assert list(groups) == [layers, Content("not readable"), squares]
    assert groups[layers].files == 6
    assert groups[layers].epochs == {1, 2, 3}
    assert groups[squares].files == 2
    assert 6_000_000 < groups[squares].size < 6_001_000

    head, *rows = table(groups).splitlines()
    assert head.split()[:3] == ["what", "of", "pixels"]
    assert rows[2].split()[:8] == ["pixels", "central", "squares", "224", "of", "256", "2", "0.01"]
    assert max(map(len, rows)) <= 120


def test_sizes_are_gigabytes() -> None:
    assert gigabytes(1_234_000_000) == "1.23"
    assert gigabytes(1) == "<0.01"


@pytest.mark.pipeline
def test_the_files_of_a_run_are_all_known(copy: Path, run: Run) -> None:
    result = run(copy, "tools.cache")
    assert result.returncode == 0, result.stdout
    title, _, head, *rows, _, last = result.stdout.splitlines()
    assert title == ".cache/: <0.01 GB (runtime.cache: at most 5.5 GB)"
    assert head.startswith("what")
    text = "\n".join(" ".join(row.split()) for row in rows)
    assert "layers up to stage4 train, random crops 32 of 36 fp32 2 2 <0.01" in text
    assert "pixels whole images 36 1 <0.01" in text
    assert "not readable" not in text
    assert "Safe to delete" in last

    for file in (copy / ".cache").glob("*/*"):
        file.unlink()
    empty = run(copy, "tools.cache").stdout
    assert empty.startswith(".cache/: 0 GB (runtime.cache: at most 5.5 GB)\n")
