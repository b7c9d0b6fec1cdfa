"""The pipeline as a user works with it, through real DVC, on tiny drawn flowers."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from pipeline.base.arrays import ArrayReader
from pipeline.models.storage import load_model
from tests.conftest import Run
from tools import sandbox


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(.+)':", output)


def edit_params(directory: Path, old: str, new: str) -> None:
    text = (directory / "params.yaml").read_text()
    assert old in text
    (directory / "params.yaml").write_text(text.replace(old, new))


def test_all_outs_are_there_and_a_second_run_does_nothing(project: Path, run: Run) -> None:
    for name in ("feature_extraction", "fine_tuning"):
        metrics = json.loads((project / "metrics" / f"{name}.json").read_text())
        assert metrics["n_test"] == metrics["test"]["n"] == 12
        assert metrics["val"]["n"] == 8
        assert re.fullmatch("[0-9a-f]{64}", metrics["weights_sha256"])
        predictions = pd.read_csv(project / "predictions" / f"{name}.csv")
        assert list(predictions) == ["id", "label", "prediction", "confidence"]
        assert (predictions["label"] == predictions["prediction"]).mean() == pytest.approx(
            metrics["test"]["accuracy"], abs=1e-6
        )
        assert predictions["confidence"].between(0.25, 1).all()
        assert (project / "live" / f"{name}.csv").read_bytes() == (project / "history" / f"{name}.csv").read_bytes()
    for figure in ("comparison", "confusion", "gradcam", "per_class", "samples", "top5", "training_curves"):
        with Image.open(project / "report" / f"{figure}.png") as image:
            assert image.width > 200
            assert "Software" not in image.info
    assert "live" not in (project / "dvc.lock").read_text() + sandbox.output(project, "git", "ls-files")
    assert run(project, "dvc", "status", "--quiet").returncode == 0
    again = run(project, "dvc", "repro")
    assert "up to date" in again.stdout
    assert not stages_run(again.stdout)


def test_one_learning_rate_runs_one_approach(copy: Path, run: Run) -> None:
    result = run(copy, "dvc", "exp", "run", "-S", "approaches.fine_tuning.learning_rates.layer4=3e-4")
    assert result.returncode == 0, result.stdout
    first, second, *others = stages_run(result.stdout)
    assert (first, second, set(others)) == (
        "train@fine_tuning",
        "evaluate@fine_tuning",
        {"compare", "explain", "report"},
    )
    params = run(copy, "dvc", "params", "diff").stdout
    assert "approaches.fine_tuning.learning_rates.layer4" in params
    metrics = run(copy, "dvc", "metrics", "diff").stdout
    assert "metrics/fine_tuning.json" in metrics
    assert "weights_sha256" in metrics
    assert "metrics/feature_extraction.json" not in metrics


def test_a_plot_style_retrains_nothing_and_runtime_settings_run_nothing(copy: Path, run: Run) -> None:
    edit_params(copy, "workers: auto", "workers: 1")
    edit_params(copy, "device: auto", "device: cpu")
    assert not stages_run(run(copy, "dvc", "repro").stdout)
    edit_params(copy, "dpi: 40", "dpi: 50")
    assert set(stages_run(run(copy, "dvc", "repro").stdout)) == {"explore", "explain", "compare"}


@pytest.mark.slow
def test_a_third_approach_is_an_edit_of_params_alone(copy: Path, run: Run) -> None:
    params = yaml.safe_load((copy / "params.yaml").read_text())
    modules = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")
    params["approaches"]["from_scratch"] = {
        "initial": "random",
        "input": "pixels",
        "learning_rates": dict.fromkeys(modules, 1e-3),
    }
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    first, second, *others = stages_run(result.stdout)
    assert (first, second, set(others)) == (
        "train@from_scratch",
        "evaluate@from_scratch",
        {"compare", "explain", "report"},
    )
    header = (copy / "report" / "comparison.md").read_text().splitlines()[0]
    assert header == "| | feature extraction | fine-tuning | from scratch |"
    parameters = json.loads((copy / "metrics" / "from_scratch.json").read_text())["parameters"]
    assert parameters["total"] == parameters["trainable"]
    assert "from_scratch" in set(pd.read_csv(copy / "report" / "curves.csv")["approach"])


def test_a_removed_approach_leaves_nothing_behind(copy: Path, run: Run) -> None:
    params = yaml.safe_load((copy / "params.yaml").read_text())
    del params["approaches"]["fine_tuning"]
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (copy / "predictions" / "mine.csv").write_text("a file that no stage made\n")
    result = run(copy, "dvc", "repro")
    assert set(stages_run(result.stdout)) == {"compare", "explain", "report"}, result.stdout
    assert not list((copy / "report" / "gradcam").glob("*fine_tuning*"))
    for folder in ("history", "metrics", "models", "per_class", "predictions"):
        assert not list((copy / folder).glob("fine_tuning.*")), folder
    assert (copy / "predictions" / "mine.csv").exists()
    compare = yaml.safe_load((copy / "dvc.lock").read_text())["stages"]["compare"]
    assert {dep["path"]: dep["nfiles"] for dep in compare["deps"] if "nfiles" in dep}["metrics"] == 1
    assert run(copy, "dvc", "status", "--quiet").returncode == 0


@pytest.mark.slow
def test_bf16_halves_the_features_and_reproduces(copy: Path, run: Run) -> None:
    exact = ArrayReader(copy / "data/layer3/test.npy").read(0, 12)
    edit_params(copy, "precision: fp32", "precision: bf16")
    result = run(copy, "dvc", "repro", "train@fine_tuning")
    assert stages_run(result.stdout) == ["features@layer3", "train@fine_tuning"], result.stdout
    bits = ArrayReader(copy / "data/layer3/test.npy").read(0, 12)
    assert bits.itemsize == 2
    rounded = torch.from_numpy(bits).view(torch.bfloat16).float().numpy()
    assert not np.array_equal(rounded, exact)
    assert np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()
    model, _ = load_model(copy / "models/fine_tuning.safetensors")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}

    lock = (copy / "dvc.lock").read_bytes()
    result = run(copy, "dvc", "repro", "--force", "--single-item", "features@layer3", "train@fine_tuning")
    assert stages_run(result.stdout) == ["features@layer3", "train@fine_tuning"]
    assert (copy / "dvc.lock").read_bytes() == lock


def test_plots_show_all_approaches_in_one_figure(copy: Path, run: Run) -> None:
    (copy / "params.yaml").write_text((copy / "params.yaml").read_text() + "# a commit to compare with\n")
    sandbox.commit(copy, "a comment")
    result = run(copy, "dvc", "plots", "diff", "HEAD~1", "HEAD", "--json")
    assert result.returncode == 0, result.stdout
    plots = json.loads(result.stdout[result.stdout.index("{") :])["data"]
    for name, field in {"loss": "loss", "accuracy": "accuracy", "per_class": "class", "confusion": "class"}.items():
        (figure,) = plots[name]
        content = json.loads(figure["content"]) if isinstance(figure["content"], str) else figure["content"]
        assert "<DVC" not in json.dumps(content)
        assert content["spec"]["encoding"]["y"]["field"] == field
        rows = content["data"]["values"]
        assert {row["approach"] for row in rows} == {"feature_extraction", "fine_tuning"}
        assert {row["rev"] for row in rows} == {"HEAD~1", "HEAD"}
        if name in ("loss", "accuracy"):
            assert {row["split"] for row in rows} == {"train", "val"}
        if name == "confusion":
            assert {f"species {number}" for number in range(1, 5)} == {row["predicted"] for row in rows}
    assert "report/training_curves.png" in plots


def test_a_class_may_be_named_by_a_number(copy: Path, run: Run) -> None:
    for path in (copy / "per_class").iterdir():
        path.write_text(path.read_text().replace("species ", "00"))
    result = run(copy, "stages", "compare")
    assert result.returncode == 0, result.stdout
    assert set(pd.read_csv(copy / "report" / "confusion.csv", dtype=str)["predicted"]) == {"001", "002", "003", "004"}


def test_plots_need_no_network_and_show_a_training_that_goes_on(copy: Path, run: Run) -> None:
    result = run(copy, "dvc", "plots", "show", "live", "-x", "epoch", "-y", "val_loss")
    assert result.returncode == 0, result.stdout
    page = (copy / "dvc_plots" / "index.html").read_text()
    assert page.count("vegaEmbed('#") == 2
    assert page.count("<script>/* vega") == 3
    assert not re.search(r"<(script|link)[^>]* (src|href)=", page)


def test_results_come_back_from_the_cache(copy: Path, run: Run) -> None:
    lock = (copy / "dvc.lock").read_bytes()
    for folder in ("data", "history", "models", "per_class", "predictions", "metrics", "report"):
        shutil.rmtree(copy / folder)
    (copy / "dvc.lock").unlink()
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert not stages_run(result.stdout)
    assert (copy / "dvc.lock").read_bytes() == lock


def test_a_stage_that_does_not_exist_is_answered_with_those_that_do(project: Path, run: Run) -> None:
    for arguments, message in {
        (): "error: no stage ''; there are alike, compare, download, draw, evaluate, explain, explore, export",
        ("bogus",): "error: no stage 'bogus'; there are alike, compare, ",
        ("train",): "error: usage: python -m stages train NAME",
        ("train", "bogus"): "error: params.yaml: approaches has no 'bogus'; it has feature_extraction, fine_tuning",
        ("features", "layer9"): "error: params.yaml: features has no 'layer9'; it has layer3, avgpool",
        ("download", "bogus"): "error: params.yaml: download has no 'bogus'; it has nothing",
        ("draw", "bogus"): "error: params.yaml: draw has no 'bogus'; it can have images and backbone",
    }.items():
        result = run(project, "stages", *arguments)
        assert result.returncode == 1
        assert result.stdout.startswith(message)
        assert result.stdout.count("\n") == 1


def test_a_mistake_in_params_is_one_line_before_any_work(copy: Path, run: Run) -> None:
    edit_params(copy, "epochs: 2\n", "epochs: two\n")
    result = run(copy, "dvc", "repro")
    assert result.returncode != 0
    assert "error: params.yaml: train.epochs = 'two': Input should be a valid integer" in result.stdout
    assert "Traceback" not in result.stdout


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)  # DVC's cache is read-only
    path.write_bytes(content)


def test_a_flipped_bit_in_the_pixels_is_noticed_and_mended(copy: Path, run: Run) -> None:
    pixels, lock = copy / "data" / "pixels" / "train.npy", (copy / "dvc.lock").read_bytes()
    original = pixels.read_bytes()
    flip_a_bit(pixels)
    assert run(copy, "dvc", "status", "--quiet").returncode == 1
    assert run(copy, "dvc", "repro").returncode == 0
    assert pixels.read_bytes() == original
    assert (copy / "dvc.lock").read_bytes() == lock


def test_a_flipped_bit_in_the_cache_is_noticed_and_computed_again(copy: Path, run: Run) -> None:
    out = copy / "data" / "pixels" / "train.npy"
    original = out.read_bytes()
    digest = hashlib.md5(original).hexdigest()
    flip_a_bit(copy / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:])
    out.unlink()
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert stages_run(result.stdout) == ["prepare"]
    assert out.read_bytes() == original


@pytest.mark.slow
def test_hard_links_store_everything_once(copy: Path, run: Run) -> None:
    """As README says; files that the pipeline makes are replaced, never changed in place, so the cache stays whole."""
    for command in (["config", "cache.type", "hardlink,copy"], ["checkout", "--relink"]):
        assert run(copy, "dvc", *command).returncode == 0
    outs = [copy / "data/layer3/train.npy", copy / "models/fine_tuning.safetensors"]
    assert [out.stat().st_nlink for out in outs] == [2, 2]
    cached = {path: path.read_bytes() for path in (copy / ".dvc/cache/files").rglob("*") if path.is_file()}
    edit_params(copy, "  seed: 0\n  images_per_class", "  seed: 1\n  images_per_class")
    result = run(copy, "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert [out.stat().st_nlink for out in outs] == [2, 2]
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
    model = (copy / "models/fine_tuning.safetensors").read_bytes()
    result = run(copy, "stages", "train", "fine_tuning")
    assert f"note: ignored {', '.join(variables)}: " in result.stdout
    assert (copy / "models/fine_tuning.safetensors").read_bytes() == model


def test_a_matplotlibrc_changes_no_figure(copy: Path, run: Run) -> None:
    figures = {path: path.read_bytes() for path in (copy / "report").glob("*.png")}
    (copy / "matplotlibrc").write_text("savefig.facecolor: red\nfont.size: 20\nfont.family: serif\n")
    for stage in ("compare", "explain", "explore"):
        assert run(copy, "stages", stage).returncode == 0
    assert {path: path.read_bytes() for path in figures} == figures
