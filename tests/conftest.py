"""Tests run the real thing, small: real files, real DVC, images of 32 pixels, a small network."""

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

from pipeline.models.files import Header
from tools.commands import environment, output
from tools.sandbox import PROJECT, RESULTS, commit, update

# What a tiny run changes in params.yaml: drawn flowers, and a network of 0.3 million weights in
# place of ResNet18's 11 million. It takes 40 s on 2 cores, most of it to start Python. On one
# thread, as tests run side by side.
NETWORK = "shufflenet_v2_x0_5"
BACKBONE = "tests/backbone.safetensors"  # by python -m tests.pretrain
TINY: dict[str, Any] = {
    "download": dict.fromkeys(("archive", "labels", "splits", "backbone")),
    "draw": {
        "images": {
            "seed": 1,
            "species": 4,
            "train_per_species": 4,
            "val_per_species": 2,
            "test_per_species": 3,
            "size": 40,
        },
    },
    "images": {"source": "indexed", "path": "data/drawn/images"},
    "backbone": {"network": NETWORK, "path": BACKBONE},
    "threads": 1,
    "train": {"resize": 36, "crop": 32, "epochs": 2, "batch_size": 8},
    "approaches": {"fine_tuning": {"learning_rates": {"layer4": None, "conv5": 1.0e-3}}},
    "dataset": {"name": "Drawn flowers", "url": "", "license": "apache-2.0", "terms": "Drawn."},
    "published": dict.fromkeys(("feature_extraction", "fine_tuning")),
    "explain": {"mistakes": 1, "disagreements": 1, "typical": 1},
    "plots": {"dpi": 40},
}


def needs_a_run(item: pytest.Item) -> bool:
    """Whether a test works on the finished run (``copy`` is one of its copies)."""
    return "project" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a finished run, and let them begin.

    The longest are first. While one worker makes the run, the others do the rest.
    """
    for item in items:
        if needs_a_run(item):
            item.add_marker("pipeline")
    items.sort(key=lambda item: (not needs_a_run(item), "tests/tools" not in item.nodeid))


# No Python process that the tests start reaches another machine either: Python finds
# sitecustomize.py by PYTHONPATH, and what it refuses is written to CONNECTIONS.
OFFLINE = Path(__file__).parent / "offline"
os.environ["PYTHONPATH"] = str(OFFLINE)
CONNECTIONS = Path(
    os.environ.setdefault("CONNECTIONS", str(Path(tempfile.mkdtemp()) / "connections.txt"))
)
runpy.run_path(str(OFFLINE / "sitecustomize.py"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Connections that something tried, without making a test fail, make all of them fail."""
    if CONNECTIONS.exists():
        print(f"\nthe tests asked for other machines:\n{CONNECTIONS.read_text()}")
        session.exitstatus = 1


HEADER = Header(
    approach="fine_tuning",
    network=NETWORK,
    classes=["a", "b", "c"],
    resize=36,
    crop=32,
    mean=[0.5, 0.5, 0.5],
    std=[0.2, 0.2, 0.2],
    fit="crop",
    precision="fp32",
    flip_averaging=False,
    initial="backbone",
    trained=["conv5", "fc"],
    parameters={"total": 2, "trainable": 1},
    temperature=1.0,
    sure_from=0.0,
    known_from=-1.0,
)

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
    """Runs ``python -m ARGUMENTS`` in a directory, as a user would.

    Returns exit code and output.
    """

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
    """A copy of the project with tiny params, after `dvc repro`.

    Tests that change it change it back. It is run once, however many processes the tests are spread
    over (pytest-xdist), and each process has a copy of its own.
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


def add_demo(project: Path) -> Path:
    """Give a copy of the project a demo, with the params and results of the copy."""
    for name in output(PROJECT, "git", "ls-files", "demo").splitlines():
        if Path(name).parts[1] not in (*RESULTS, "backbone.safetensors", "params.yaml"):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, project / name, follow_symlinks=False)
    demo = project / "demo"
    shutil.copyfile(project / "params.yaml", demo / "params.yaml")
    (demo / "tests").mkdir()
    shutil.copyfile(project / BACKBONE, demo / BACKBONE)
    if (project / "dvc.lock").exists():
        shutil.copytree(project / "environment", demo / "environment")
        for name in ("curves.csv", "dvc.lock", "metrics.json"):
            shutil.copyfile(project / name, demo / name)
    return demo


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; the test is skipped where there is none."""
    from tests.browser import start_browser  # selenium takes time to import

    started = start_browser()
    yield started
    started.quit()


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
