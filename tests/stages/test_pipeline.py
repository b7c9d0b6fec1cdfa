"""The pipeline as a user works with it, through real DVC, on tiny drawn flowers."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline.base.errors import UserError
from pipeline.base.files import hex_digest
from pipeline.params import load_params
from stages.__main__ import main
from tests.conftest import Run
from tests.faults import results
from tests.small import flip_bit
from tests.stages.in_process import run_stages
from tools.commands import output

APPROACHES = ["feature_extraction", "fine_tuning"]
FIGURES = ["comparison", "confusion", "gradcam", "per_class", "samples", "top5", "training_curves"]


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(.+)':", output)


def set_param(directory: Path, key: str, value: Any) -> None:
    """Write a value into params.yaml; None removes its key."""
    path = directory / "params.yaml"
    params = yaml.safe_load(path.read_text())
    *parents, last = key.split(".")
    section = params
    for part in parents:
        section = section[part]
    section[last] = value
    if value is None:
        del section[last]
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def test_all_outs_are_there_and_a_second_run_does_nothing(project: Path, run: Run) -> None:
    metrics = json.loads((project / "metrics.json").read_text())
    for name in APPROACHES:
        evaluation = json.loads((project / "evaluation" / f"{name}.json").read_text())
        assert evaluation["test"]["images"] == 12
        assert evaluation["val"]["images"] == 8
        assert re.fullmatch("[0-9a-f]{64}", evaluation["weights_sha256"])
        accuracy = evaluation["test"]["accuracy"]
        assert metrics["test"][name] == accuracy
        predictions = pd.read_csv(project / "predictions" / f"{name}.csv")
        assert list(predictions) == ["id", "label", "prediction", "confidence", "verdict"]
        is_right = predictions["label"] == predictions["prediction"]
        assert is_right.mean() == pytest.approx(accuracy, abs=1e-6)
        assert predictions["confidence"].between(0.25, 1).all()
        live = (project / "live" / f"{name}.csv").read_bytes()
        assert live == (project / "history" / f"{name}.csv").read_bytes()
    for figure in FIGURES:
        with Image.open(project / "report" / f"{figure}.png") as image:
            assert image.width > 200
            assert "Software" not in image.info
    tracked = output(project, "git", "ls-files") + (project / "dvc.lock").read_text()
    assert "metrics.json" in tracked
    assert "live" not in tracked
    assert run(project, "dvc", "status", "--quiet").returncode == 0
    again = run(project, "dvc", "repro")
    assert "up to date" in again.stdout
    assert not stages_run(again.stdout)


def test_an_experiment_runs_one_approach_and_is_compared_with_the_last_commit(
    copy: Path, run: Run
) -> None:
    key = "approaches.fine_tuning.learning_rates.conv5"
    result = run(copy, "dvc", "exp", "run", "-S", f"{key}=0.5")
    assert result.returncode == 0, result.stdout
    first, second, *others = stages_run(result.stdout)
    assert (first, second) == ("train@fine_tuning", "evaluate@fine_tuning")
    assert set(others) == {"explain", "report"}
    assert key in run(copy, "dvc", "params", "diff").stdout
    metrics = run(copy, "dvc", "metrics", "diff").stdout
    assert "test_loss.fine_tuning" in metrics
    assert "feature_extraction" not in metrics

    result = run(copy, "dvc", "plots", "diff", "HEAD", "workspace", "--json")
    assert result.returncode == 0, result.stdout
    plots = json.loads(result.stdout[result.stdout.index("{") :])["data"]
    fields = {"loss": "loss", "curves.csv": "accuracy", "per_class": "class", "confusion": "class"}
    for name, field in fields.items():
        (figure,) = plots[name]
        content = figure["content"]
        content = json.loads(content) if isinstance(content, str) else content
        assert "<DVC" not in json.dumps(content)
        assert content["spec"]["encoding"]["y"]["field"] == field
        rows = content["data"]["values"]
        assert {row["approach"] for row in rows} == set(APPROACHES)
        assert {row["rev"] for row in rows} == {"HEAD", "workspace"}
        if name in ("loss", "accuracy"):
            assert {row["split"] for row in rows} == {"train", "val"}
        if name == "confusion":
            species = {f"species {number}" for number in range(1, 5)}
            assert {row["predicted"] for row in rows} <= species
    assert "report/training_curves.png" in plots


@pytest.mark.slow
def test_another_approach_is_an_edit_of_params_alone(copy: Path, run: Run) -> None:
    modules = ("conv1", "stage2", "stage3", "stage4", "conv5", "fc")
    approach = {"initial": "random", "learning_rates": dict.fromkeys(modules, 1e-3)}
    set_param(copy, "approaches.from_scratch", approach)
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    first, second, *others = stages_run(result.stdout)
    assert (first, second) == ("train@from_scratch", "evaluate@from_scratch")
    assert set(others) == {"explain", "report"}
    header = (copy / "report" / "comparison.md").read_text().splitlines()[0]
    assert header == "| | feature extraction | fine-tuning | from scratch |"
    evaluation = json.loads((copy / "evaluation" / "from_scratch.json").read_text())
    assert evaluation["parameters"]["total"] == evaluation["parameters"]["trainable"]
    assert "from_scratch" in set(pd.read_csv(copy / "curves.csv")["approach"])


def test_a_removed_approach_leaves_nothing_behind(copy: Path, run: Run) -> None:
    set_param(copy, "approaches.fine_tuning", None)
    (copy / "predictions" / "mine.csv").write_text("a file that no stage made\n")
    result = run(copy, "dvc", "repro")
    assert set(stages_run(result.stdout)) == {"explain", "report"}, result.stdout
    assert not list((copy / "report" / "gradcam").glob("*fine_tuning*"))
    folders = ("evaluation", "history", "live", "models", "per_class", "predictions")
    for folder in (*folders, "unlabelled", "validation"):
        assert not list((copy / folder).glob("fine_tuning.*")), folder
    assert not (copy / "environment" / "train-fine_tuning.json").exists()
    assert (copy / "predictions" / "mine.csv").exists()
    report = yaml.safe_load((copy / "dvc.lock").read_text())["stages"]["report"]
    (models,) = [dep["nfiles"] for dep in report["deps"] if dep["path"] == "evaluation"]
    assert models == 1
    assert run(copy, "dvc", "status", "--quiet").returncode == 0


def test_a_class_may_be_named_by_a_number(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (copy / "per_class").iterdir():
        path.write_text(path.read_text().replace("species ", "00"))
    monkeypatch.chdir(copy)
    run_stages(load_params("params.yaml"), ["report"])
    classes = pd.read_csv("report/confusion.csv", dtype=str)["class"]
    assert set(classes) == {"001", "002", "003", "004"}


def test_plots_need_no_network_and_show_a_training_while_it_runs(copy: Path, run: Run) -> None:
    result = run(copy, "dvc", "plots", "show", "live", "-x", "epoch", "-y", "val_loss")
    assert result.returncode == 0, result.stdout
    page = (copy / "dvc_plots" / "index.html").read_text()
    assert page.count("vegaEmbed('#") == 2
    assert page.count("<script>/* vega") == 3
    assert not re.search(r"<(script|link)[^>]* (src|href)=", page)


def test_results_come_back_from_the_cache_of_dvc(copy: Path, run: Run) -> None:
    before = results(copy)
    folders = ("data", "evaluation", "history", "models", "per_class", "predictions", "report")
    for folder in (*folders, "unlabelled", "validation"):
        shutil.rmtree(copy / folder)
    for file in ("curves.csv", "dvc.lock", "metrics.json"):
        (copy / file).unlink()
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert not stages_run(result.stdout)
    assert results(copy) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no stage ''; there are download, draw, evaluate, explain, explore, export, images"),
        ("bogus", "no stage 'bogus'; there are download, "),
        ("train", "usage: python -m stages train NAME"),
        (
            "train bogus",
            "params.yaml: approaches has no 'bogus'; it has feature_extraction, fine_tuning",
        ),
        ("download bogus", "params.yaml: download has no 'bogus'; it has nothing"),
        ("draw bogus", "params.yaml: draw has no 'bogus'; it can have images"),
    ],
)
def test_a_stage_that_does_not_exist_is_answered_with_those_that_do(
    project: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["stages", *arguments.split()])
    with pytest.raises(UserError) as error:
        main()
    assert str(error.value).startswith(message)


def test_a_mistake_in_params_is_one_line_before_any_work(copy: Path, run: Run) -> None:
    set_param(copy, "train.epochs", "two")
    result = run(copy, "dvc", "repro")
    assert result.returncode != 0
    message = "error: params.yaml: train.epochs = 'two': Input should be a valid integer"
    assert message in result.stdout
    assert "Traceback" not in result.stdout


def test_a_flipped_bit_in_an_out_is_noticed_and_repaired(copy: Path, run: Run) -> None:
    before = results(copy)
    flip_bit(copy / "data" / "raw" / "images.tar", -1)
    assert run(copy, "dvc", "status", "--quiet").returncode == 1
    assert run(copy, "dvc", "repro", "images").returncode == 0
    assert results(copy) == before


def test_a_flipped_bit_in_the_cache_of_dvc_is_noticed_and_computed_again(
    copy: Path, run: Run
) -> None:
    before = results(copy)
    model = copy / "models" / "fine_tuning.safetensors"
    digest = hex_digest(model, "md5")
    cached = copy / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    cached.chmod(0o644)  # it is read-only
    flip_bit(cached, -1)
    model.unlink()
    result = run(copy, "dvc", "repro", "train@fine_tuning")
    assert result.returncode == 0, result.stdout
    assert stages_run(result.stdout) == ["train@fine_tuning"]
    assert results(copy) == before


@pytest.mark.slow
def test_hard_links_store_everything_once(copy: Path, run: Run) -> None:
    """As docs/recipes.md says.

    Files that the pipeline makes are replaced, never changed in place: the cache stays whole.
    """
    for command in (["config", "cache.type", "hardlink,copy"], ["checkout", "--relink"]):
        assert run(copy, "dvc", *command).returncode == 0
    linked = [copy / "history/fine_tuning.csv", copy / "models/fine_tuning.safetensors"]
    assert all(path.stat().st_nlink > 1 for path in linked)
    files = [path for path in (copy / ".dvc/cache/files").rglob("*") if path.is_file()]
    cached = {path: path.read_bytes() for path in files}
    set_param(copy, "train.seed", 1)
    result = run(copy, "dvc", "repro", "train@fine_tuning")
    assert stages_run(result.stdout) == ["train@fine_tuning"]
    assert all(path.stat().st_nlink > 1 for path in linked)
    assert {path: path.read_bytes() for path in cached} == cached


def test_variables_that_change_the_arithmetic_are_ignored(
    copy: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them alone would make other weights, or let training hang."""
    variables = {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "OMP_DYNAMIC": "true",
        "OMP_THREAD_LIMIT": "1",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shutil.rmtree(copy / ".cache")  # or the frozen layers would not be run
    model = (copy / "models/fine_tuning.safetensors").read_bytes()
    result = run(copy, "stages", "train", "fine_tuning")
    assert f"note: ignored {', '.join(variables)}: " in result.stdout
    assert (copy / "models/fine_tuning.safetensors").read_bytes() == model


def test_a_matplotlibrc_changes_no_figure(copy: Path, run: Run) -> None:
    before = results(copy)
    settings = "savefig.facecolor: red\nfont.size: 20\nfont.family: serif\n"
    (copy / "matplotlibrc").write_text(settings)
    assert run(copy, "stages", "report").returncode == 0
    assert results(copy) == before


@pytest.mark.slow
def test_the_bulk_of_the_data_can_lie_on_another_disk(copy: Path, run: Run, tmp_path: Path) -> None:
    """As docs/troubleshooting.md says."""
    before = results(copy)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(copy / ".dvc" / "cache", elsewhere / "dvc")
    shutil.move(copy / ".cache", elsewhere / "cache")
    shutil.rmtree(copy / "models")
    (copy / ".cache").symlink_to(elsewhere / "cache")
    assert run(copy, "dvc", "cache", "dir", "--local", str(elsewhere / "dvc")).returncode == 0
    assert run(copy, "dvc", "config", "--local", "cache.type", "symlink").returncode == 0
    done = run(copy, "dvc", "repro", "--force", "train@feature_extraction")
    assert done.returncode == 0, done.stdout
    model = copy / "models" / "feature_extraction.safetensors"
    assert model.readlink().is_relative_to(elsewhere / "dvc")
    rest = run(copy, "dvc", "repro")
    assert rest.returncode == 0, rest.stdout
    assert results(copy) == before
