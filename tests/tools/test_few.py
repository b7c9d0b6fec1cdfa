"""The study of few images: a table and a figure from DVC experiments."""

import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline.base.errors import UserError
from tests.conftest import Run
from tools.few import markdown
from tools.seeds import numbers


@pytest.mark.slow
@pytest.mark.pipeline
def test_the_study_is_one_command(copy: Path, run: Run) -> None:
    before = (copy / "dvc.lock").read_bytes()
    result = run(copy, "tools.few", "1", "0")
    head = "| training images per class | feature extraction | fine-tuning |"
    assert head in result.stdout, result.stdout
    assert (copy / "dvc.lock").read_bytes() == before
    assert not re.findall("Running stage '(draw|images|explore)", result.stdout)
    assert "few-1-0" in run(copy, "dvc", "exp", "list").stdout
    table = pd.read_csv(copy / "report" / "few_images.csv")
    assert table[["images_per_class", "seed"]].drop_duplicates().to_numpy().tolist() == [[1, 0]]
    assert (copy / "report" / "few_images.png").exists()


def test_table_of_known_runs() -> None:
    rows = [
        (2, 0, "a_b", 0.5),
        (2, 1, "a_b", 0.7),
        (1, 0, "a_b", 0.3),
        (1, 1, "a_b", 0.2),
        (1, 0, "c", 0.1),
        (1, 1, "c", 0.3),
        (2, 0, "c", 0.9),
        (2, 1, "c", 1.0),
    ]
    columns = ["images_per_class", "seed", "approach", "test_accuracy"]
    text = markdown(pd.DataFrame(rows, columns=columns))
    assert text.splitlines()[2:4] == [
        "| 1 | 25.0% (20.0% to 30.0%) | 20.0% (10.0% to 30.0%) |",
        "| 2 | 60.0% (50.0% to 70.0%) | 95.0% (90.0% to 100.0%) |",
    ]
    assert "mean and range of 2 seeds" in text


@pytest.mark.parametrize("text", ["", "one", "1 1", "1 -2"])
def test_numbers_that_make_no_study_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=f'^COUNTS="{text}": name one or more different numbers$'):
        numbers(text, "COUNTS")
