"""Several processes make what one makes: features and evaluation to the byte, training but for the order of sums."""

import os
import signal
import socket
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

from pipeline.params import read_yaml
from tests.conftest import Run
from tools.sandbox import environment, merge

MODEL = "models/feature_extraction.safetensors"
STAGES = [["features", "layer3"], ["features", "avgpool"], ["evaluate", "fine_tuning"]]
FILES = [
    "data/layer3/train.npy",
    "data/layer3/test.npy",
    "data/avgpool/train.npy",
    "metrics/fine_tuning.json",
    "predictions/fine_tuning.csv",
]


def torchrun(count: int, *options: str) -> str:
    return " ".join(["torchrun", *(options or ("--standalone",)), "--nproc-per-node", str(count)])


def configure(directory: Path, launch: str, **changes: Any) -> None:
    params = merge(read_yaml(directory / "params.yaml"), {"runtime": {"launch": launch}} | changes)
    (directory / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def killed(directory: Path, stage: list[str], sign: Path, victim: str) -> str:
    """Run a stage; once ``sign`` is there, kill it, or (victim: launched) one of the processes that it launched."""
    command = [sys.executable, "-m", "stages", *stage]
    process = subprocess.Popen(
        command, cwd=directory, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not sign.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    os.kill(process.pid if victim == "stage" else newest(process.pid), signal.SIGKILL)
    output = process.communicate(timeout=60)[0]
    assert process.returncode
    return output


def newest(parent: int) -> int:
    """The last of the processes that descend from ``parent``."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return newest(int(children[-1])) if children else parent


@pytest.mark.slow
def test_features_and_evaluation_are_the_same_bytes(copy: Path, run: Run) -> None:
    """Of five pieces of 16 images in training and three in the test split, so that every process has a share."""
    configure(copy, "", draw={"images": {"train_per_species": 17, "test_per_species": 10}})
    for stage in (["draw", "images"], ["images"], ["prepare"]):
        assert run(copy, "stages", *stage).returncode == 0
    made = []
    for launch in ("", torchrun(2), torchrun(3), torchrun(4)):
        configure(copy, launch)
        for stage in STAGES:
            result = run(copy, "stages", *stage)
            assert result.returncode == 0, result.stdout
            assert "note: ignored" not in result.stdout
        made.append({name: (copy / name).read_bytes() for name in FILES})
        for name in FILES:
            (copy / name).unlink()
    assert made == made[:1] * 4


@pytest.mark.slow
def test_a_head_is_trained_alike_whoever_is_killed_and_goes_on_with_another_number(copy: Path, run: Run) -> None:
    stage, live = ["train", "feature_extraction"], copy / "live/feature_extraction.csv"
    configure(copy, "", train={"epochs": 40})
    for module in ("layer3", "avgpool"):
        assert run(copy, "stages", "features", module).returncode == 0
    assert run(copy, "stages", *stage).returncode == 0
    alone = load_file(copy / MODEL)
    history = pd.read_csv(copy / "history/feature_extraction.csv")
    (copy / MODEL).unlink()

    configure(copy, torchrun(2), train={"epochs": 40})
    live.unlink()
    output = killed(copy, stage, live, "launched")
    errors = [line for line in output.splitlines() if "error" in line.lower()]
    assert errors == [output.splitlines()[-1]]
    assert "nproc-per-node 2': a process ended with -9; nothing was written, run it again" in errors[0]
    assert "Traceback" not in output
    live.unlink()
    killed(copy, stage, live, "stage")  # and what it launched ends with it: it holds the output open
    assert not (copy / MODEL).exists()
    assert not list(copy.glob("models/.*.part"))
    configure(copy, torchrun(3), train={"epochs": 40})
    result = run(copy, "stages", *stage)
    assert result.returncode == 0, result.stdout
    assert "resumed from .resume/feature_extraction" in result.stdout

    together = load_file(copy / MODEL)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=0, atol=1e-5 if name.startswith("fc.") else 0)
    found = pd.read_csv(copy / "history/feature_extraction.csv")
    assert abs(found - history).to_numpy().max() < 1e-4


@pytest.mark.slow
def test_what_cannot_start_is_one_line_and_nothing_is_lost(copy: Path, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        taken = torchrun(2, "--master-addr", "127.0.0.1", "--master-port", str(port))
        absent = torchrun(1, *f"--nnodes 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{free_port()}".split())
        for launch, stage, message in [
            ("torchrunn", "feature_extraction", "runtime.launch = 'torchrunn': torchrunn: No such file or directory"),
            (taken, "feature_extraction", "address already in use"),
            (f"{absent} --rdzv-conf join_timeout=2", "feature_extraction", "RendezvousTimeoutError"),
            (torchrun(2), "fine_tuning", "fine_tuning.learning_rates: trains BatchNorm (layer4.0.bn1), for which"),
            (torchrun(2), "nobody", "approaches has no 'nobody'; it has feature_extraction, fine_tuning"),
        ]:
            configure(copy, launch)
            before = (copy / MODEL).read_bytes()
            result = run(copy, "stages", "train", stage)
            assert result.returncode == 1
            *others, last = result.stdout.splitlines()
            assert last.startswith("error: ")
            assert message in last
            assert not [line for line in others if "error" in line.lower() or "Traceback" in line]
            assert (copy / MODEL).read_bytes() == before


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
