"""A stage in several processes: what goes wrong in any of them is one line, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.base.errors import UserError
from pipeline.base.launch import OTHER, is_first, is_launched, launch
from pipeline.params import read_yaml
from tests.conftest import Run
from tools.commands import environment
from tools.merge import merge
from tools.sandbox import PROJECT


def launcher(folder: Path, code: str) -> str:
    """The command of a launcher that runs ``code``."""
    (folder / "launcher.py").write_text(f"import os, sys\n{code}\n")
    return f"{sys.executable} {folder / 'launcher.py'}"


def test_without_a_launcher_this_is_the_first_process() -> None:
    assert is_first()
    assert not is_launched()


def test_the_launcher_is_given_the_stage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROCESSES", "4")
    code = "print(sys.argv[1:])\nprint('note: of a stage', file=sys.stderr)"
    launch(launcher(tmp_path, code) + " --count $PROCESSES", ["train", "fine_tuning"])
    printed = capfd.readouterr()
    arguments = ["--count", "4", "-m", "stages", "train", "fine_tuning"]
    assert printed.out == f"{arguments}\n"
    assert printed.err == "note: of a stage\n"


TORCHRUN = """
W1127 21:12:00.000000 1 site-packages/torch/distributed/run.py:852] *****
E1127 21:12:05.000000 1 site-packages/torch/distributed/elastic/api.py:882] failed (exitcode: 1)
"""
# The end of what torchrun prints.
FAILED = """Traceback (most recent call last):
  File "torchrun", line 8, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
  exitcode  : -15 (pid: 5)
  exitcode  : {code} (pid: 6)
"""


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        # A process says what is wrong; another one only that it waits in vain.
        (
            f"error: runtime.launch: {OTHER} (x)\nerror: data/raw: damaged\n{TORCHRUN}",
            "^data/raw: damaged$",
        ),
        (TORCHRUN + FAILED.format(code=-9), r"launch = '.*': a process ended with -9; nothing was"),
        ("", "it failed; nothing was written, run it again"),
        ("Traceback (most recent call last):\nRendezvousTimeoutError\n", ": RendezvousTimeoutErr"),
    ],
)
def test_a_failure_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], printed: str, message: str
) -> None:
    code = f"sys.stderr.write({printed!r})\nsys.exit(1)"
    with pytest.raises(UserError, match=message) as error:
        launch(launcher(tmp_path, code), ["train", "x"])
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err.strip() == ""


def test_a_bug_in_a_stage_is_a_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bug = "Traceback (most recent call last):\nZeroDivisionError: division by zero\n"
    code = f"sys.stderr.write({bug + FAILED.format(code=1)!r})\nsys.exit(1)"
    with pytest.raises(UserError, match="a process ended with 1; nothing was written"):
        launch(launcher(tmp_path, code), ["train", "x"])
    assert capfd.readouterr().err == bug


def test_a_launcher_that_does_not_exist_is_named() -> None:
    with pytest.raises(UserError, match=r"launch = 'torchrunn -x': torchrunn: No such file"):
        launch("torchrunn -x", ["train", "x"])


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_the_launcher_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        f"open({str(tmp_path / 'new')!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'id')!r})\n"
        "import time\ntime.sleep(60)"
    )
    call = f"from pipeline.base.launch import launch; launch({launcher(tmp_path, code)!r}, [])"
    process = subprocess.Popen([sys.executable, "-c", call], cwd=PROJECT)
    wait_for(tmp_path / "id", process)
    process.kill()
    process.wait()
    launched = Path("/proc") / (tmp_path / "id").read_text()
    for _ in range(1000):
        if not launched.exists() or "\nState:\tZ" in (launched / "status").read_text():
            break
        time.sleep(0.01)
    else:
        raise AssertionError("it runs on")


def wait_for(path: Path, process: "subprocess.Popen[Any]") -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)


MODEL = "models/feature_extraction.safetensors"
EVALUATED = ["evaluation/fine_tuning.json", "predictions/fine_tuning.csv"]


def configure(directory: Path, launch: str, **changes: Any) -> None:
    params = merge(read_yaml(directory / "params.yaml"), {"runtime": {"launch": launch}} | changes)
    (directory / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def torchrun(count: int) -> str:
    return f"torchrun --standalone --nproc-per-node {count}"


def newest(parent: int) -> int:
    """The last of the processes that descend from ``parent``."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return newest(int(children[-1])) if children else parent


@pytest.mark.slow
def test_torchrun_evaluates_to_the_same_bytes(copy: Path, run: Run) -> None:
    before = [(copy / name).read_bytes() for name in EVALUATED]
    for name in EVALUATED:
        (copy / name).unlink()
    configure(copy, torchrun(2))
    result = run(copy, "stages", "evaluate", "fine_tuning")
    assert result.returncode == 0, result.stdout
    assert "note: ignored" not in result.stdout
    assert [(copy / name).read_bytes() for name in EVALUATED] == before


@pytest.mark.slow
def test_torchrun_trains_a_head_whoever_is_killed(copy: Path, run: Run) -> None:
    """One of two processes is killed; three continue after the last epoch."""
    stage = ("train", "feature_extraction")
    live = copy / "live" / "feature_extraction.csv"
    epochs = {"train": {"epochs": 40}}
    configure(copy, "", **epochs)
    assert run(copy, "stages", *stage).returncode == 0
    alone = load_file(copy / MODEL)
    history = pd.read_csv(copy / "history" / "feature_extraction.csv")
    (copy / MODEL).unlink()
    live.unlink()

    configure(copy, torchrun(2), **epochs)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages", *stage],
        cwd=copy,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(live, process)
    os.kill(newest(process.pid), signal.SIGKILL)
    output = process.communicate()[0]
    assert process.returncode == 1
    assert "Traceback" not in output
    errors = [line for line in output.splitlines() if "error" in line.lower()]
    assert errors == [output.splitlines()[-1]]
    assert "nproc-per-node 2': a process ended with -9; nothing was written, run it again" in output
    assert not (copy / MODEL).exists()

    configure(copy, torchrun(3), **epochs)
    result = run(copy, "stages", *stage)
    assert result.returncode == 0, result.stdout
    assert "resumed from .resume/feature_extraction" in result.stdout
    together = load_file(copy / MODEL)
    for name, tensor in alone.items():
        tolerance = 1e-5 if name.startswith("fc.") else 0
        torch.testing.assert_close(together[name], tensor, rtol=0, atol=tolerance)
    found = pd.read_csv(copy / "history" / "feature_extraction.csv")
    assert abs(found - history).to_numpy().max() < 1e-4


@pytest.mark.slow
def test_what_several_processes_cannot_train_is_one_line(copy: Path, run: Run) -> None:
    configure(copy, torchrun(2))
    for name, message in {
        "fine_tuning": r"fine_tuning: trains BatchNorm (conv5.1), for which several processes need",
        "nobody": "approaches has no 'nobody'; it has feature_extraction, fine_tuning",
    }.items():
        result = run(copy, "stages", "train", name)
        assert result.returncode == 1
        *others, last = result.stdout.splitlines()
        assert last.startswith("error: ")
        assert message in last
        assert not [line for line in others if "error" in line.lower() or "Traceback" in line]
