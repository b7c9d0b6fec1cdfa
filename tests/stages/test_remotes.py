"""A team's results travel by git and a DVC remote: a folder, S3, SSH."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests import servers
from tests.conftest import Run
from tests.faults import results
from tools.commands import output
from tools.sandbox import commit

Remote = Callable[[Path], AbstractContextManager[servers.Settings]]


@contextmanager
def folder(root: Path) -> Iterator[servers.Settings]:
    yield {"url": str(root)}


@contextmanager
def s3(root: Path) -> Iterator[servers.Settings]:
    with servers.s3() as settings:
        yield settings


@pytest.mark.parametrize("remote", [folder, s3, servers.ssh])
def test_a_clone_gets_everything_and_runs_nothing(
    copy: Path, run: Run, tmp_path: Path, remote: Remote
) -> None:
    def dvc(directory: Path, *arguments: str) -> str:
        result = run(directory, "dvc", *arguments)
        assert result.returncode == 0, result.stdout
        return result.stdout

    with remote(tmp_path / "remote") as settings:
        options = settings | {"verify": "true"}
        dvc(copy, "remote", "add", "--default", "storage", options.pop("url"))
        for name, value in options.items():
            dvc(copy, "config", f"remote.storage.{name}", value)
        commit(copy, "a remote")
        dvc(copy, "push", "--run-cache")
        output(tmp_path, "git", "clone", "--quiet", str(copy), "clone")
        clone = tmp_path / "clone"
        dvc(clone, "pull", "--run-cache")
        assert results(clone) == results(copy)
        assert "Running stage" not in dvc(clone, "repro")


def test_everybody_reads_what_the_team_writes(copy: Path, run: Run, tmp_path: Path) -> None:
    """By HTTP, without a name or a secret; only the team knows the remote to which it writes."""
    with servers.http(tmp_path / "remote") as settings:
        for arguments in (
            ["remote", "add", "--default", "storage", settings["url"]],
            ["remote", "add", "--local", "team", str(tmp_path / "remote")],
            ["push", "--remote", "team"],
        ):
            assert run(copy, "dvc", *arguments).returncode == 0
        commit(copy, "a remote to read from")
        output(tmp_path, "git", "clone", "--quiet", str(copy), "clone")
        pulled = run(tmp_path / "clone", "dvc", "pull")
        assert pulled.returncode == 0, pulled.stdout
    assert results(tmp_path / "clone") == results(copy)
