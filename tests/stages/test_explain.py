"""The stage that explains predictions, on what a finished run holds, in another directory."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.raw import read_index
from pipeline.models.networks import new_network
from pipeline.models.storage import load_model, save_model
from pipeline.params import Params, load_params
from stages.explain import main


@pytest.fixture
def params(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Of the finished run, whose data, models and predictions are here too."""
    for folder in ("data", "models", "predictions"):
        (tmp_path / folder).mkdir()
        for path in (project / folder).iterdir():
            (tmp_path / folder / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return load_params(project / "params.yaml")


def outs(directory: Path) -> dict[str, bytes]:
    report = directory / "report"
    return {path.name: path.read_bytes() for path in [*report.glob("gradcam.*"), *report.glob("gradcam/*")]}


def test_it_shows_every_approach_on_each_image_with_the_same_bytes_anywhere(
    project: Path, params: Params, tmp_path: Path
) -> None:
    (tmp_path / "report" / "gradcam").mkdir(parents=True)
    (tmp_path / "report" / "gradcam" / "of an earlier run.jpg").touch()
    main(params)
    assert outs(tmp_path) == outs(project)
    table = pd.read_csv("report/gradcam.csv", keep_default_na=False)
    assert list(table["approach"]) == ["feature_extraction", "fine_tuning"] * (len(table) // 2)
    names = {f"{row.id}-{row.approach}.jpg" for row in table.itertuples()} | {f"{row}.jpg" for row in table["id"]}
    assert {path.name for path in Path("report/gradcam").iterdir()} == names
    members = read_index(project / "data" / "raw").set_index("id")["member"]
    assert list(table["member"]) == list(members[table["id"]])
    assert set(table["note"]) <= {"", "no positive evidence"}
    for name in params.approaches:
        found = pd.read_csv(f"predictions/{name}.csv").set_index("id").loc[table["id"].unique()]
        shown = table[table["approach"] == name]
        for column in ("label", "prediction"):
            assert list(shown[column]) == [f"species {number + 1}" for number in found[column]]
        assert list(shown["confidence"]) == list(found["confidence"])


def test_no_image_and_no_feature_map_leave_all_outs_in_place(params: Params) -> None:
    flat = new_network("shufflenet_v2_x0_5", None, 4, 0)  # one place only in images of 32 pixels
    header = load_model(Path("models/fine_tuning.safetensors"))[1] | {"network": "shufflenet_v2_x0_5"}
    Path("models/fine_tuning.safetensors").unlink()
    save_model(Path("models/fine_tuning.safetensors"), flat, header)
    main(params)
    table = pd.read_csv("report/gradcam.csv", keep_default_na=False)
    assert set(table.loc[table["approach"] == "fine_tuning", "note"]) == {"no feature map"}
    assert "no feature map" not in set(table.loc[table["approach"] == "feature_extraction", "note"])

    nothing = {"mistakes": 0, "disagreements": 0, "typical": 0}
    main(params.model_copy(update={"explain": params.explain.model_copy(update=nothing)}))
    assert Path("report/gradcam.csv").read_text() == "rule,id,member,label,approach,prediction,confidence,note\n"
    assert Path("report/gradcam.png").stat().st_size
    assert not list(Path("report/gradcam").iterdir())
