"""The stage that explains predictions, on what a finished run holds, in another folder."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.raw import read_index
from pipeline.params import Params, load_params
from stages.explain import main
from tests.faults import digests

OUTS = ["report/gradcam", "report/gradcam.csv", "report/gradcam.png"]


@pytest.fixture
def params(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Of the finished run, whose data, models and predictions are here too."""
    for folder in ("data", "models", "predictions"):
        (tmp_path / folder).mkdir()
        for path in (project / folder).iterdir():
            (tmp_path / folder / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return load_params(project / "params.yaml")


def read_explained() -> pd.DataFrame:
    return pd.read_csv("report/gradcam.csv", keep_default_na=False)


def test_it_shows_every_approach_on_each_image_with_the_same_bytes_anywhere(
    project: Path, params: Params, tmp_path: Path
) -> None:
    pictures = Path("report/gradcam")
    pictures.mkdir(parents=True)
    (pictures / "of an earlier run.jpg").touch()
    main(params)
    assert digests(tmp_path, OUTS) == digests(project, OUTS)
    table = read_explained()
    assert list(table["approach"]) == ["feature_extraction", "fine_tuning"] * (len(table) // 2)
    names = {f"{row.id}-{row.approach}.jpg" for row in table.itertuples()}
    names |= {f"{image_id}.jpg" for image_id in table["id"]}
    assert {path.name for path in pictures.iterdir()} == names
    members = read_index(project / "data" / "raw").set_index("id")["member"]
    assert list(table["member"]) == list(members[table["id"]])
    assert set(table["note"]) <= {"", "no positive evidence"}
    for name in params.approaches:
        predictions = pd.read_csv(f"predictions/{name}.csv").set_index("id")
        found = predictions.loc[table["id"].unique()]
        shown = table[table["approach"] == name]
        for column in ("label", "prediction"):
            assert list(shown[column]) == [f"species {number + 1}" for number in found[column]]
        assert list(shown["confidence"]) == list(found["confidence"])


def test_a_network_without_a_feature_map_is_noted(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.explain.gradcam", lambda network, pixels, class_id: None)
    main(params)
    assert set(read_explained()["note"]) == {"no feature map"}
    assert Path("report/gradcam.png").stat().st_size


def test_if_there_is_nothing_to_explain_all_outs_are_there(params: Params) -> None:
    nothing = {"mistakes": 0, "disagreements": 0, "typical": 0}
    explain = params.explain.model_copy(update=nothing)
    main(params.model_copy(update={"explain": explain}))
    header = "rule,id,member,label,approach,prediction,confidence,note\n"
    assert Path("report/gradcam.csv").read_text() == header
    assert Path("report/gradcam.png").stat().st_size
    assert not list(Path("report/gradcam").iterdir())
