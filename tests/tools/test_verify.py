"""Results depend on code and params alone, not on clock, place or user; `make verify` notices when they do."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Run
from tools.sandbox import commit, environment
from tools.verify import ACCURACY_TOLERANCE, LOSS_TOLERANCE, compare

# Python reads this file when it starts, in every process of the run; this one is 400 days ahead, and says so.
MOVED_CLOCK = """
import ctypes, datetime, gc, sys, time

AHEAD = 400 * 86400
for name in ("time", "time_ns"):
    def moved(true=getattr(time, name), ahead=AHEAD * (10**9 if name == "time_ns" else 1)):
        return true() + ahead
    setattr(time, name, moved)
for name in ("localtime", "gmtime", "ctime"):
    def moved(seconds=None, true=getattr(time, name)):
        return true(time.time() if seconds is None else seconds)
    setattr(time, name, moved)
for name in ("strftime", "asctime"):
    def moved(*given, true=getattr(time, name), count=2 if name == "strftime" else 1):
        return true(*given, *([] if len(given) == count else [time.localtime()]))
    setattr(time, name, moved)

# datetime.datetime is a type in C that others in C build on: it cannot be replaced, but its methods can.
methods = gc.get_referents(datetime.datetime.__dict__)[0]
for name in ("now", "utcnow"):
    def moved(cls, *zone, true=getattr(datetime.datetime, name), **named):
        return true(*zone, **named) + datetime.timedelta(seconds=AHEAD)
    methods[name] = classmethod(moved)
ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))

with open(LOG, "a") as log:
    print(f"{time.time():.0f} {datetime.datetime.now():%Y-%m-%d} {datetime.date.today()}", *sys.orig_argv, file=log)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tempfile makes its directories: empty when all is tidy."""
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
def test_results_depend_on_neither_clock_nor_place_nor_user(
    copy: Path, temporary: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two more runs, both 400 days ahead, the second as another user in another place: the bytes of the first run."""
    log = tmp_path / "log"
    (tmp_path / "ahead").mkdir()
    (tmp_path / "ahead" / "sitecustomize.py").write_text(MOVED_CLOCK.replace("LOG", repr(str(log))))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "ahead"))
    start = time.time()
    result = run(copy, "tools.verify", "--real")
    assert result.returncode == 0, result.stdout

    outs = [out for stage in lock(copy).values() for out in stage["outs"]]
    for out in outs:
        path, digits = re.escape(out["path"]), out["md5"][:12]
        assert re.search(rf"^{path} +{digits} +{digits} +equal$", result.stdout, re.MULTILINE), out["path"]
    digest = hashlib.md5((copy / "dvc.lock").read_bytes()).hexdigest()[:12]
    assert re.search(rf"^dvc.lock +{digest} +{digest} +equal$", result.stdout, re.MULTILINE)
    assert f"{len(outs) + 1} files, dvc.lock and the outs of {len(lock(copy))} stages: none DIFFERENT" in result.stdout
    assert not list(temporary.iterdir())

    lines = [line.split(" ", 3) for line in log.read_text().splitlines()]
    for stage in lock(copy).values():
        moved = [line[:3] for line in lines if line[3] == stage["cmd"]]
        assert len(moved) == 2, stage["cmd"]
        for seconds, *dates in moved:
            assert float(seconds) > start + 399 * 86400
            for date in dates:
                assert time.mktime(time.strptime(date, "%Y-%m-%d")) > start + 398 * 86400


@pytest.mark.slow
def test_chance_in_one_stage_is_found_and_blamed(copy: Path, temporary: Path, run: Run) -> None:
    """Initial weights from the system's chance instead of params' seed: a stage trains otherwise, others follow."""
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["features"], params["alike"] = {}, []  # saves time
    params["approaches"] = {"feature_extraction": params["approaches"]["feature_extraction"] | {"input": "pixels"}}
    (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    append(
        copy,
        "pipeline/models/networks.py",
        "\n\nimport os\n\nseeded = new_network\n\n\ndef new_network(network, state, classes, seed, pooled):\n"
        "    return seeded(network, state, classes, int.from_bytes(os.urandom(4)), pooled)\n",
    )
    result = run(copy, "tools.verify", "--real")
    assert result.returncode == 1, result.stdout
    assert re.search(r"^data/pixels/train.npy .* equal$", result.stdout, re.MULTILINE)
    for name in ("models/feature_extraction.safetensors", "metrics/feature_extraction.json", "report/comparison.json"):
        assert re.search(rf"^{name} .* DIFFERENT$", result.stdout, re.MULTILINE), name
    assert "to blame (same command, deps and params, other outs): train@feature_extraction\n" in result.stdout
    record = json.loads((copy / "environment" / "train-feature_extraction.json").read_text())["environment"]
    for field, value in record.items():
        assert re.search(rf"^{field} +{re.escape(value)} +{re.escape(value)} +equal$", result.stdout, re.MULTILINE)
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_metrics_are_as_committed(copy: Path, temporary: Path, run: Run) -> None:
    """--against: the same commit on the same machine makes the same metrics, of its approaches and no others."""
    metrics = copy / "metrics" / "fine_tuning.json"
    text = metrics.read_text()
    metrics.write_text(text.replace('"n_test": 12', '"n_test": 13'))
    commit(copy, "a false number")
    result = run(copy, "tools.verify", "--against", "HEAD~1")
    assert result.returncode == 0, result.stdout
    assert "another environment" not in result.stdout
    assert re.search(r"metrics/fine_tuning.json.n_test +12 +12 +equal", result.stdout)
    assert result.stdout.endswith("metrics: none DIFFERENT\n")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("nowhere", "error: nowhere: no such revision"),
        ("HEAD~2", "error: HEAD~2: has no metrics"),
        ("HEAD", "error: HEAD has no metrics/feature_extraction.json"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(copy: Path, run: Run, revision: str, message: str) -> None:
    (copy / "metrics" / "feature_extraction.json").unlink()
    commit(copy, "an approach without metrics")
    result = run(copy, "tools.verify", "--against", revision)
    assert result.returncode == 1
    assert result.stdout == message + "\n"


def test_a_run_that_fails_is_reported(copy: Path, temporary: Path, run: Run) -> None:
    append(copy, "stages/draw.py", "raise SystemExit('out of luck')\n")
    (copy / "CITATION.cff").unlink()
    result = run(copy, "tools.verify")
    assert result.returncode == 1
    assert result.stdout.startswith("note: HEAD is verified; the working tree has uncommitted changes, which are not\n")
    assert "out of luck" in result.stdout
    assert "error: `dvc repro` failed with exit code" in result.stdout
    assert not list(temporary.iterdir())


def test_ctrl_c_leaves_nothing_behind(copy: Path, temporary: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.verify"],
        cwd=copy,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("> python -m stages "):
            break
    assert list(temporary.iterdir())
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130
    assert output.endswith("interrupted\n")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("key", "change", "same_environment", "elsewhere"),
    [
        ("test.accuracy", 0.000001, "DIFFERENT", "within tolerance"),
        ("test.accuracy", 0.9 * ACCURACY_TOLERANCE, "DIFFERENT", "within tolerance"),
        ("test.accuracy", 1.1 * ACCURACY_TOLERANCE, "DIFFERENT", "DIFFERENT"),
        ("val.loss", -0.9 * LOSS_TOLERANCE, "DIFFERENT", "within tolerance"),
        ("val.loss", -1.1 * LOSS_TOLERANCE, "DIFFERENT", "DIFFERENT"),
        ("test.n", 1, "DIFFERENT", "DIFFERENT"),
        ("parameters.total", -1, "DIFFERENT", "DIFFERENT"),
        ("weights_sha256", "0", "DIFFERENT", "not compared"),
        ("test.n", None, "DIFFERENT", "DIFFERENT"),
        ("test.loss", None, "DIFFERENT", "DIFFERENT"),
    ],
)
def test_metrics_are_exact_here_and_within_tolerance_elsewhere(
    project: Path, key: str, change: Any, same_environment: str, elsewhere: str
) -> None:
    name = "metrics/fine_tuning.json"
    committed, fresh = (json.loads((project / name).read_text()) for _ in range(2))
    *path, last = key.split(".")
    section = fresh
    for part in path:
        section = section[part]
    if change is None:
        del section[last]
    else:
        section[last] += change
    for same, expected in ((True, same_environment), (False, elsewhere)):
        verdicts = {row[0]: row[-1] for row in compare({name: committed}, {name: fresh}, same)}
        assert verdicts.pop(f"{name}.{key}") == expected
        assert set(verdicts.values()) == {"equal"}
