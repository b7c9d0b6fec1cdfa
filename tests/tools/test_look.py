"""A look at one's own images before any training: what `make look` does."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.base.errors import UserError
from tests.conftest import BACKBONE, Run
from tests.report.test_page import Checked
from tests.tools.test_own import COLOURS, write_images
from tools.look import main


@pytest.mark.slow
@pytest.mark.pipeline
def test_a_page_says_what_to_check_and_training_begins_where_it_ends(
    copy: Path, tmp_path: Path, run: Run
) -> None:
    images = tmp_path / "my images"
    write_images(images)
    red, blue, _ = (images / name for name in COLOURS)
    shutil.copy(red / "0.png", red / "copy.png")
    shutil.move(blue / "7.png", red / "wrong.png")

    backbone = str(copy / BACKBONE)
    result = run(copy, "tools.look", str(images), backbone)
    assert result.returncode == 0, result.stdout
    assert "Running stage 'train@" not in result.stdout
    assert "The data: own/report/data.html, for a browser" in result.stdout
    text = Checked((copy / "own" / "report" / "data.html").read_text(encoding="utf-8")).text
    assert "Labels to check: " in text
    suspects = pd.read_csv(copy / "own" / "report" / "suspects.csv")
    assert "wrong.png" in suspects["file"].iloc[0]
    alike = pd.read_csv(copy / "own" / "report" / "alike.csv")
    same = alike[alike["kind"] == "identical"]
    assert {Path(file).name for file in same[["first", "second"]].iloc[0]} == {"0.png", "copy.png"}
    for file in (suspects["file"].iloc[0], *same[["first", "second"]].iloc[0]):
        assert file in text

    again = run(copy, "tools.look", str(images), backbone)
    assert again.returncode == 0
    assert "Running stage" not in again.stdout
    own = run(copy, "tools.own", str(images), backbone, "--effort", "quick")
    assert own.returncode == 0, own.stdout
    assert "Running stage 'train@feature_extraction'" in own.stdout
    assert "Running stage 'images'" not in own.stdout
    assert "Running stage 'explore'" not in own.stdout
    assert (copy / "own" / "report" / "data.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "name your images: make look IMAGES="),
        (["nowhere"], "{folder}/nowhere: no such file or folder"),
        ([".", "nowhere"], "{folder}/nowhere: no such file or folder"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["look", *arguments])
    with pytest.raises(UserError) as error:
        main()
    assert str(error.value).startswith(message.format(folder=tmp_path))
    assert "\n" not in str(error.value)
