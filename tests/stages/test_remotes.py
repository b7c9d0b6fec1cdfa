"""A team's results travel by git and a DVC remote: a folder, S3, SSH."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import asyncssh
import pytest

from tests import servers
from tests.conftest import Run
from tests.faults import results
from tests.test_faults import flip
from tools.sandbox import commit, output

Remote = Callable[[Path], AbstractContextManager[servers.Settings]]


@contextmanager
def folder(root: Path) -> Iterator[servers.Settings]:
    yield {"url": str(root)}


@contextmanager
def s3(root: Path) -> Iterator[servers.Settings]:
    with servers.s3() as settings:
        yield settings


def add_remote(repository: Path, run: Run, settings: servers.Settings) -> None:
    assert run(repository, "dvc", "remote", "add", "--default", "storage", settings["url"]).returncode == 0
    for name, value in (settings | {"verify": "true"}).items():
        assert run(repository, "dvc", "remote", "modify", "storage", name, value).returncode == 0
    commit(repository, "a remote")


def push(repository: Path, run: Run) -> None:
    result = run(repository, "dvc", "push", "--run-cache")
    assert result.returncode == 0, result.stdout


@pytest.fixture
def shared(copy: Path, run: Run, tmp_path: Path) -> Path:
    """A finished run that was pushed, with its run-cache, to the folder ``remote``; its git repository."""
    add_remote(copy, run, {"url": str(tmp_path / "remote")})
    push(copy, run)
    return copy


@pytest.mark.parametrize("remote", [folder, s3, servers.ssh])
def test_a_clone_gets_everything_and_runs_nothing(copy: Path, run: Run, tmp_path: Path, remote: Remote) -> None:
    with remote(tmp_path / "remote") as settings:
        add_remote(copy, run, settings)
        push(copy, run)
        clone_gets_everything_and_runs_nothing(copy, run, tmp_path)


def test_a_full_remote_and_one_without_rights_lose_nothing(copy: Path, run: Run, tmp_path: Path) -> None:
    before, refused = results(copy), [asyncssh.SFTPNoSpaceOnFilesystem("full"), asyncssh.SFTPPermissionDenied("no")]
    with servers.ssh(tmp_path / "remote", lambda: refused[0] if refused else None) as settings:
        add_remote(copy, run, settings)
        while refused:
            result = run(copy, "dvc", "push", "--run-cache")
            assert result.returncode == 1
            assert "Traceback" not in result.stdout
            assert "ERROR: " in result.stdout
            assert results(copy) == before
            refused.pop(0)
        push(copy, run)
        clone_gets_everything_and_runs_nothing(copy, run, tmp_path)


def clone_gets_everything_and_runs_nothing(shared: Path, run: Run, tmp_path: Path) -> None:
    output(tmp_path, "git", "clone", "--quiet", str(shared), "clone")
    result = run(tmp_path / "clone", "dvc", "pull", "--run-cache")
    assert result.returncode == 0, result.stdout
    assert results(tmp_path / "clone") == results(shared)
    result = run(tmp_path / "clone", "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert "Running stage" not in result.stdout


@pytest.mark.slow
def test_what_the_remote_damaged_or_lost_is_named_and_made_again(shared: Path, run: Run, tmp_path: Path) -> None:
    """Without the run-cache, which would ask for them anew."""
    lock = (shared / "dvc.lock").read_text()
    stored = {}
    for name in ("report/index.html", "models/fine_tuning.safetensors"):
        md5 = lock.split(f"- path: {name}\n")[-1].split("md5: ")[1].split()[0]
        stored[name] = tmp_path / "remote" / "files" / "md5" / md5[:2] / md5[2:]
    flip(stored["report/index.html"])
    stored["models/fine_tuning.safetensors"].unlink()
    output(tmp_path, "git", "clone", "--quiet", str(shared), "clone")
    result = run(tmp_path / "clone", "dvc", "pull")
    assert result.returncode == 1
    assert "Traceback" not in result.stdout
    for name in stored:
        assert name in result.stdout
    result = run(tmp_path / "clone", "dvc", "repro")
    assert result.returncode == 0, result.stdout
    assert results(tmp_path / "clone") == results(shared)
