"""A second copy of the project, with other params, in which a pipeline can run and leave the first one alone."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.errors import UserError
from pipeline.params import read_yaml

PROJECT = Path(__file__).resolve().parent.parent
# Pathspec of what git tracks and the pipeline does not write: a copy makes its own results.
SOURCES = ("--", ".", ":!dvc.lock", ":!environment", ":!metrics")
DVC = (sys.executable, "-m", "dvc")


def environment() -> dict[str, str]:
    """The environment in which `python` is this Python, as dvc.yaml expects."""
    return os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def run(directory: Path, *command: str, capture: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command, with environment ``variables``; Ctrl-C interrupts all that it started, and waits for it."""
    pipe = subprocess.PIPE if capture else None
    options: dict[str, Any] = {"cwd": directory, "env": environment() | variables, "stdout": pipe, "stderr": pipe}
    # In a session of its own Ctrl-C reaches it through us alone.
    process = subprocess.Popen(command, encoding="utf-8", start_new_session=True, **options)
    try:
        printed = process.communicate()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, *printed)


def output(directory: Path, *command: str, error: str = "") -> str:
    """What a command prints; UserError with ``error``, or its own last line, if it fails."""
    done = run(directory, *command, capture=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed"]
        raise UserError(error or f"{shlex.join(command)}: {lines[-1]}")
    return done.stdout


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, key by key; null removes a key (JSON Merge Patch, RFC 7386)."""
    merged = base | changes
    for key in base.keys() & changes.keys():
        if isinstance(base[key], dict) and isinstance(changes[key], dict):
            merged[key] = merge(base[key], changes[key])
    return {key: value for key, value in merged.items() if value is not None or key not in changes}


def update(sandbox: Path, changes: dict[str, Any], project: Path = PROJECT) -> None:
    """Bring ``sandbox`` up to date with the working tree of ``project`` (uncommitted changes too), params changed.

    The sandbox is a git and DVC repository of its own, so every `dvc` and `dvc exp` command works in it. Results
    of earlier runs there stay, and files that git does not track; what the project no longer has is removed.
    """
    if not (sandbox / ".git").exists():
        sandbox.mkdir(parents=True, exist_ok=True)
        output(sandbox, "git", "init", "--quiet")
        output(sandbox, "git", "config", "user.name", "sandbox")
        output(sandbox, "git", "config", "user.email", "sandbox@localhost")
    output(sandbox, "git", "rm", "-r", "--quiet", "--force", "--ignore-unmatch", *SOURCES)
    names = output(project, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *SOURCES)
    present = [name for name in names.split("\0") if (project / name).is_file()]
    for name in present:
        (sandbox / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / name, sandbox / name)
    text = yaml.safe_dump(merge(read_yaml(project / "params.yaml"), changes), sort_keys=False, allow_unicode=True)
    (sandbox / "params.yaml").write_text(text, encoding="utf-8")
    commit(sandbox, "the project's working tree", *present)


def commit(sandbox: Path, message: str, *paths: str) -> None:
    """Commit ``paths``, or all of the sandbox that git does not ignore, if anything changed."""
    output(sandbox, "git", "--literal-pathspecs", "add", "--all", "--", *(paths or ["."]))
    if output(sandbox, "git", "diff", "--cached", "--name-only"):
        output(sandbox, "git", "commit", "--quiet", "--no-verify", "--no-gpg-sign", "--message", message)
