"""A copy of the project with other params, in which the pipeline runs without touching this one."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.errors import UserError
from pipeline.params import read_yaml

PROJECT = Path(__file__).resolve().parent.parent
# Pathspec of what git tracks and the pipeline does not write: a copy makes its own results.
SOURCES = ("--", ".", ":!dvc.lock", ":!environment", ":!metrics.json")
DVC = (sys.executable, "-m", "dvc")


def environment() -> dict[str, str]:
    """Environment variables with which `python` is this Python, as dvc.yaml expects."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return os.environ | {"PATH": os.pathsep.join(folders)}


def run(
    directory: Path,
    *command: str,
    capture: bool = False,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command; Ctrl-C interrupts all that it started, and waits for it.

    Args:
        capture: whether to return what it prints, instead of printing it.
        variables: of the environment, besides those of this process.
    """
    pipe = subprocess.PIPE if capture else None
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment() | dict(variables or {}),
        stdout=pipe,
        stderr=pipe,
        encoding="utf-8",
        start_new_session=True,  # so that Ctrl-C reaches it through this process alone
    )
    try:
        stdout, stderr = process.communicate()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def output(directory: Path, *command: str, error: str = "") -> str:
    """What a command prints.

    Raises:
        UserError: it failed; the text is ``error``, or the last line that it printed.
    """
    done = run(directory, *command, capture=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed"]
        raise UserError(error or f"{shlex.join(command)}: {lines[-1]}")
    return done.stdout


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, key by key; null removes a key.

    That is JSON Merge Patch (RFC 7386).
    """
    merged = base | changes
    for key in base.keys() & changes.keys():
        if isinstance(base[key], dict) and isinstance(changes[key], dict):
            merged[key] = merge(base[key], changes[key])
    return {key: value for key, value in merged.items() if value is not None or key not in changes}


def update(sandbox: Path, changes: dict[str, Any], project: Path = PROJECT) -> None:
    """Bring ``sandbox`` up to date with the working tree of ``project``, uncommitted changes too.

    The sandbox is a git and DVC repository of its own, so every `dvc` and `dvc exp` command works
    in it. Results of earlier runs there stay, and so do files that git does not track; what the
    project no longer has is removed.

    Args:
        changes: of params.yaml, for :func:`merge`.
    """
    if not (sandbox / ".git").exists():
        sandbox.mkdir(parents=True, exist_ok=True)
        output(sandbox, "git", "init", "--quiet")
        output(sandbox, "git", "config", "user.name", "sandbox")
        output(sandbox, "git", "config", "user.email", "sandbox@localhost")
    output(sandbox, "git", "rm", "-r", "--quiet", "--force", "--ignore-unmatch", *SOURCES)
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *SOURCES)
    names = output(project, *listing).split("\0")
    present = [name for name in names if (project / name).is_file()]
    for name in present:
        (sandbox / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / name, sandbox / name)
    params = merge(read_yaml(project / "params.yaml"), changes)
    text = yaml.safe_dump(params, sort_keys=False, allow_unicode=True)
    (sandbox / "params.yaml").write_text(text, encoding="utf-8")
    commit(sandbox, "the project's working tree", *present)


def commit(sandbox: Path, message: str, *paths: str) -> None:
    """Commit ``paths``, or all of the sandbox that git does not ignore, if anything changed."""
    output(sandbox, "git", "--literal-pathspecs", "add", "--all", "--", *(paths or ["."]))
    if output(sandbox, "git", "diff", "--cached", "--name-only"):
        options = ("--quiet", "--no-verify", "--no-gpg-sign", "--message", message)
        output(sandbox, "git", "commit", *options)
