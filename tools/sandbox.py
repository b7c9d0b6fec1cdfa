"""A second copy of the project, with other params, in which a pipeline can run and leave the first one alone."""

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.params import read_yaml

PROJECT = Path(__file__).resolve().parent.parent
# Files that git tracks and the pipeline writes: a copy makes its own.
RESULTS = ("dvc.lock", "environment", "metrics")


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, key by key; null removes a key (JSON Merge Patch, RFC 7386)."""
    merged = dict(base)
    for key, change in changes.items():
        if change is None:
            merged.pop(key, None)
        elif isinstance(change, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], change)
        else:
            merged[key] = change
    return merged


def update(sandbox: Path, changes: dict[str, Any]) -> None:
    """Bring ``sandbox`` up to date with the project's working tree (uncommitted changes too), params changed.

    The sandbox is a git and DVC repository of its own, so every `dvc` and `dvc exp` command works in it. Files
    that have not changed are not touched, nor are results of earlier runs there.
    """
    sandbox.mkdir(parents=True, exist_ok=True)
    listing = _run(PROJECT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listing.split("\0")):
        original, copy = PROJECT / name, sandbox / name
        if name.split("/")[0] in (*RESULTS, "params.yaml") or not original.is_file():
            continue
        if not copy.exists() or not filecmp.cmp(original, copy, shallow=False):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(original, copy)
    params = merge(read_yaml(PROJECT / "params.yaml"), changes)
    text = yaml.safe_dump(params, sort_keys=False, allow_unicode=True)
    if not (sandbox / "params.yaml").exists() or (sandbox / "params.yaml").read_text() != text:
        (sandbox / "params.yaml").write_text(text)
    if not (sandbox / ".git").exists():
        _run(sandbox, "git", "init", "--quiet")
        _run(sandbox, "git", "config", "user.name", "sandbox")
        _run(sandbox, "git", "config", "user.email", "sandbox@localhost")
    commit(sandbox, "the project's working tree")


def commit(sandbox: Path, message: str) -> None:
    """Commit all of the sandbox that git does not ignore, if anything changed."""
    _run(sandbox, "git", "add", "--all")
    if _run(sandbox, "git", "status", "--porcelain"):
        _run(sandbox, "git", "commit", "--quiet", "--no-verify", "--message", message)


def environment() -> dict[str, str]:
    """The environment in which `python` is this Python, as dvc.yaml expects."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return os.environ | {"PATH": path}


def _run(directory: Path, *command: str) -> str:
    return subprocess.run(command, cwd=directory, check=True, stdout=subprocess.PIPE, text=True).stdout
