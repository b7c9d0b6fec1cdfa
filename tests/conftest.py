"""Tests run the real thing, small: real files, real DVC, a network of full depth on images of 32 pixels."""

import io
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from pipeline.params import read_yaml
from tools.sandbox import PROJECT, commit, environment, merge, update

# The demo, smaller: a whole run takes well under a minute. On one thread, as the tests run side by side.
TINY: dict[str, Any] = merge(
    read_yaml(PROJECT / "tools" / "demo.yaml"),
    {
        "draw": {
            "images": {
                "species": 4,
                "train_per_species": 4,
                "val_per_species": 2,
                "test_per_species": 3,
                "size": 40,
            },
            "backbone": {
                "species": 3,
                "images_per_species": 4,
                "size": 36,
                "crop": 32,
                "epochs": 1,
                "batch_size": 4,
                "threads": 1,
            },
        },
        "threads": 1,
        "transforms": {"resize": 36, "crop": 32},
        "train": {"epochs": 2, "batch_size": 8},
        "approaches": {"random_features": None},
        "alike": [],
        "explain": {"mistakes": 1, "disagreements": 1, "typical": 1},
        "plots": {"dpi": 40},
    },
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those on a finished run first, the longest before all: one worker makes the run while others do the rest."""

    def late(item: pytest.Item) -> tuple[bool, bool]:
        return "project" not in getattr(item, "fixturenames", ()), "tests/tools" not in item.nodeid

    items.sort(key=late)


# No Python process that the tests start reaches another machine either: it reads PYTHONPATH, and writes to CONNECTIONS.
OFFLINE = Path(__file__).parent / "offline"
os.environ["PYTHONPATH"] = str(OFFLINE)
CONNECTIONS = Path(os.environ.setdefault("CONNECTIONS", str(Path(tempfile.mkdtemp()) / "connections.txt")))
runpy.run_path(str(OFFLINE / "sitecustomize.py"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Connections that something tried, without making a test fail, make all of them fail."""
    if CONNECTIONS.exists():
        print(f"\nthe tests asked for other machines:\n{CONNECTIONS.read_text()}")
        session.exitstatus = 1


# Of a model's file.
HEADER: dict[str, Any] = {
    "approach": "fine_tuning",
    "network": "resnet18",
    "classes": ["a", "b", "c"],
    "input": "pixels",
    "transforms": {"resize": 36, "crop": 32, "flip": 0.5, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    "parameters": {"total": 2, "trainable": 1},
}

# A shell's background jobs, and all that they start, ignore Ctrl-C; the tests of it need it.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # threads of several tests at once would wait for one another
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch computes on two threads, as in the experiment."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def run() -> Run:
    """Runs ``python -m ARGUMENTS`` in a directory, as a user would, and returns exit code and output."""

    def call(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=directory,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return call


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A copy of the project with tiny params, after `dvc repro`. Tests that change it change it back.

    Run once, however many processes the tests are spread over (pytest-xdist); each has a copy of its own.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    with FileLock(shared / "project.lock"):
        if not (shared / "project").exists():
            update(shared / "unfinished", TINY)
            command = [sys.executable, "-m", "dvc", "repro"]
            result = subprocess.run(
                command,
                cwd=shared / "unfinished",
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert result.returncode == 0, result.stdout
            commit(shared / "unfinished", "results")
            (shared / "unfinished").rename(shared / "project")
    if shared != own:
        shutil.copytree(shared / "project", own / "project", symlinks=True)
    return own / "project"


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with its cache, to be changed."""
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def jpeg(number: int, width: int = 60, height: int = 44) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(content, "JPEG")
    return content.getvalue()


def write_archive(path: Path, images: dict[int, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for number, content in images.items():
            member = tarfile.TarInfo(f"jpg/image_{number:05d}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
