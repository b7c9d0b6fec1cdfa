"""Results depend on code and params alone; `make verify` notices when they do not."""

import hashlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Run
from tools.commands import environment
from tools.sandbox import commit
from tools.verify import DATASET, TOLERANCES, Result, compare, first_difference

# Initial weights from the system's chance, in place of the seed of params.yaml.
UNSEEDED = """

import os

seeded = new_network


def new_network(network, state, classes, seed):
    return seeded(network, state, classes, int.from_bytes(os.urandom(4)))
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tempfile makes its folders: empty when all is tidy."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def lock(directory: Path) -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((directory / "dvc.lock").read_text())["stages"]
    return stages


def append(directory: Path, name: str, text: str) -> None:
    with (directory / name).open("a") as file:
        file.write(text)
    commit(directory, name)


@pytest.mark.slow
@pytest.mark.pipeline
def test_results_depend_on_neither_place_nor_user_nor_cache(
    copy: Path, temporary: Path, run: Run
) -> None:
    """Two more runs, the second as another user in another place: the bytes of the first run."""
    result = run(copy, "tools.verify", "--real")
    assert result.returncode == 0, result.stdout
    outs = [out for stage in lock(copy).values() for out in stage["outs"]]
    digests = {out["path"]: out["md5"] for out in outs}
    digests["dvc.lock"] = hashlib.md5((copy / "dvc.lock").read_bytes()).hexdigest()
    for name, digest in digests.items():
        row = rf"^{re.escape(name)} +{digest[:12]} +{digest[:12]} +equal$"
        assert re.search(row, result.stdout, re.MULTILINE), name
    summary = f"{len(digests)} files, dvc.lock and the outs of {len(lock(copy))} stages"
    assert f"{summary}: none DIFFERENT" in result.stdout
    assert not list(temporary.iterdir())


@pytest.mark.slow
@pytest.mark.pipeline
def test_chance_in_one_stage_is_found_and_named(copy: Path, temporary: Path, run: Run) -> None:
    params = yaml.safe_load((copy / "params.yaml").read_text())
    del params["approaches"]["fine_tuning"]  # saves time
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    append(copy, "pipeline/models/networks.py", UNSEEDED)
    result = run(copy, "tools.verify", "--real")
    assert result.returncode == 1, result.stdout
    assert re.search(rf"^{DATASET} .* equal$", result.stdout, re.MULTILINE)
    for name in ("models/feature_extraction.safetensors", "metrics.json", "report/comparison.json"):
        assert re.search(rf"^{name} .* DIFFERENT$", result.stdout, re.MULTILINE), name
    assert result.stdout.endswith(
        "first difference (same command, deps and params): train@feature_extraction\n"
    )
    record = json.loads((copy / "environment" / "train-feature_extraction.json").read_text())
    for field, value in record.items():
        row = rf"^{field} +{re.escape(value)} +{re.escape(value)} +equal$"
        assert re.search(row, result.stdout, re.MULTILINE)
    assert not list(temporary.iterdir())


def stage(**outs: str) -> dict[str, Any]:
    return {"cmd": "python", "deps": [], "outs": [{"path": k, "md5": v} for k, v in outs.items()]}


@pytest.mark.parametrize(
    ("changed", "pixels", "named"),
    [
        ({"train": stage(model="2")}, "a", "train"),
        ({"explore": stage(samples="2"), "train": stage(model="2")}, "a", "explore, train"),
        (
            {"explore": stage(dataset="2"), "train": stage(model="2")},
            "b",
            "explore, train; the decoded pixels of train",
        ),
        # Other raw data: explore and train had other deps.
        (
            {"images": stage(raw="2"), "explore": stage(dataset="2") | {"deps": ["2"]}},
            "b",
            "images",
        ),
    ],
)
def test_the_first_difference_is_named(changed: dict[str, Any], pixels: str, named: str) -> None:
    stages = {
        "images": stage(raw="1"),
        "explore": stage(dataset="1"),
        "train": stage(model="1"),
    }
    first = Result(stages, {}, {"train": "a", "val": "a"}, {}, {})
    second = Result(stages | changed, {}, {"train": pixels, "val": "a"}, {}, {})
    text = first_difference(first, second)
    assert text == f"first difference (same command, deps and params): {named}"


@pytest.mark.slow
@pytest.mark.pipeline
def test_metrics_are_as_committed(copy: Path, temporary: Path, run: Run) -> None:
    """--against: the same commit on the same machine makes the same metrics."""
    metrics = json.loads((copy / "metrics.json").read_text())
    accuracy = metrics["test"]["fine_tuning"]
    metrics["test"]["fine_tuning"] = accuracy + 0.001
    (copy / "metrics.json").write_text(json.dumps(metrics))
    commit(copy, "a false number")
    result = run(copy, "tools.verify", "--against", "HEAD~1")
    assert result.returncode == 0, result.stdout
    assert "another environment" not in result.stdout
    row = rf"metrics.json.test.fine_tuning +{accuracy} +{accuracy} +\+0.000000 +equal"
    assert re.search(row, result.stdout)
    assert result.stdout.endswith("metrics: none DIFFERENT\n")
    assert not list(temporary.iterdir())


@pytest.mark.pipeline
def test_what_cannot_be_compared_is_said_in_one_line(copy: Path, run: Run) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    del metrics["test"]["feature_extraction"]
    metrics["test"]["another"] = 0.5
    (copy / "metrics.json").write_text(json.dumps(metrics))
    commit(copy, "metrics of another approach")
    messages = {
        "nowhere": "nowhere: no such revision",
        "HEAD~2": "HEAD~2: has no metrics.json",
        "HEAD": "HEAD has no approach another; HEAD has no metrics of feature_extraction",
    }
    for revision, message in messages.items():
        result = run(copy, "tools.verify", "--against", revision)
        assert result.returncode == 1
        assert result.stdout == f"error: {message}\n"


@pytest.mark.pipeline
def test_a_run_that_fails_is_reported(copy: Path, temporary: Path, run: Run) -> None:
    append(copy, "stages/draw.py", "raise SystemExit('out of luck')\n")
    (copy / "CITATION.cff").unlink()
    result = run(copy, "tools.verify", "--real")
    assert result.returncode == 1
    assert result.stdout.startswith(
        "note: HEAD is verified; the working tree has uncommitted changes, which are not\n"
    )
    assert "out of luck" in result.stdout
    assert "error: `dvc repro` failed with exit code" in result.stdout
    assert not list(temporary.iterdir())


@pytest.mark.pipeline
def test_ctrl_c_leaves_nothing_behind(copy: Path, temporary: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.verify", "--real"],
        cwd=copy,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("> python3 -m stages "):
            break
    assert list(temporary.iterdir())
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130
    assert output.endswith("interrupted\n")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("section", "change", "elsewhere"),
    [
        ("test", 0.000001, "within tolerance"),
        ("test", 0.9 * TOLERANCES["test"], "within tolerance"),
        ("test", 1.1 * TOLERANCES["test"], "DIFFERENT"),
        ("val_loss", -0.9 * TOLERANCES["val_loss"], "within tolerance"),
        ("val_loss", -1.1 * TOLERANCES["val_loss"], "DIFFERENT"),
        ("a_new_section", 0.000001, "DIFFERENT"),
        ("test", None, "DIFFERENT"),
    ],
)
def test_metrics_are_exact_here_and_within_tolerance_elsewhere(
    section: str, change: float | None, elsewhere: str
) -> None:
    committed = {name: {"fine_tuning": 0.5} for name in (*TOLERANCES, "a_new_section")}
    fresh = committed | {section: {} if change is None else {"fine_tuning": 0.5 + change}}
    for is_same_environment, expected in ((True, "DIFFERENT"), (False, elsewhere)):
        old = {"metrics.json": committed}
        new = {"metrics.json": fresh}
        verdicts = {row.name: row.verdict for row in compare(old, new, is_same_environment)}
        assert verdicts.pop(f"metrics.json.{section}.fine_tuning") == expected
        assert set(verdicts.values()) == {"equal"}
