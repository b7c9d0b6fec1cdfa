"""Does the commit make its results again? Usage: python -m tools.verify [--real] [--against REV]

Two clones of HEAD run from nothing, the second with everything changed that must not matter, and every out of every
stage is compared. With --against REV one clone runs the real experiment, and its metrics are held against REV's.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from pipeline.base.errors import UserError, for_people
from pipeline.base.files import hex_digest
from pipeline.base.parallel import cpu_workers
from pipeline.params import read_yaml
from tools.sandbox import PROJECT, RESULTS, environment, merge

# How far metrics may move in another environment, which rounds otherwise; several times what was measured (README).
ACCURACY_TOLERANCE = 0.01
LOSS_TOLERANCE = 0.01

Lock = dict[str, Any]  # `stages` of a dvc.lock
Records = dict[str, dict[str, str]]  # by file of environment/
Row = tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="the real experiment instead of drawn flowers")
    parser.add_argument("--against", metavar="REV", help="one real run, compared with the metrics committed at REV")
    arguments = parser.parse_args()
    if git("status", "--porcelain", "--", ".", *(f":!{name}" for name in RESULTS)):
        print("note: HEAD is verified; the working tree has uncommitted changes, which are not")
    with tempfile.TemporaryDirectory(prefix="verify-") as temporary:
        if arguments.against:
            return against(arguments.against, Path(temporary))
        return twice(arguments.real, Path(temporary))


def twice(real: bool, temporary: Path) -> int:
    """Run twice, compare all outs; 1 if any differs."""
    first, second = temporary / "first", temporary / "another" / "place"
    for clone_to, changes in ((first, {}), (second, {"runtime": {"workers": cpu_workers("auto") + 1}})):
        clone(clone_to, changes, real)
    (temporary / "home").mkdir()
    # The clone's directory, TMPDIR and runtime.workers differ already.
    changed = {"HOME": str(temporary / "home"), "PYTHONHASHSEED": "1", "TZ": "X-14"}
    changed |= dict.fromkeys(("HOSTNAME", "LOGNAME", "USER"), "somebody-else") | {"LANG": "C", "LC_ALL": "C"}
    print("run 1 of 2", flush=True)
    reproduce(first, {})
    print("run 2 of 2: other directory, TMPDIR, workers, " + ", ".join(changed), flush=True)
    reproduce(second, changed)

    locks = [yaml.safe_load((run / "dvc.lock").read_text())["stages"] for run in (first, second)]
    rows, blamed = differences(*locks)
    digests = [hex_digest(run / "dvc.lock", "md5") for run in (first, second)]
    rows.append(("dvc.lock", *(digest[:12] for digest in digests), verdict(digests[0] == digests[1])))
    print_table([("file", "run 1", "run 2", ""), *rows])
    code = conclude(rows, f"files, dvc.lock and the outs of {len(locks[0])} stages")
    if code:
        print(f"to blame (same command, deps and params, other outs): {', '.join(blamed) or 'nothing in dvc.yaml'}")
        print_environments("run 1", records(first), "run 2", records(second))
    return code


def against(rev: str, temporary: Path) -> int:
    """Run once, compare the metrics with those committed at ``rev``; 1 if any is off.

    Raises:
        UserError: ``rev`` is unknown, has no metrics, or not those of the same approaches.
    """
    git("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}", error=f"{rev}: no such revision")
    committed = {
        name: json.loads(git("show", f"{rev}:{name}"))
        for name in git("ls-tree", "-r", "--name-only", rev, "metrics/", "environment/").splitlines()
    }
    old = {name: value for name, value in committed.items() if name.startswith("metrics/")}
    if not old:
        raise UserError(f"{rev}: has no metrics")
    clone(temporary / "run", {}, real=True)
    outs = {out.def_path for out in Repo(str(temporary / "run")).index.outs}
    expected = {name for name in outs if name.startswith("metrics/")}
    unpaired = [f"{rev} has no {name}" for name in sorted(expected - set(old))]
    unpaired += [f"HEAD makes no {name}" for name in sorted(set(old) - expected)]
    if unpaired:  # said before the run, which takes its time
        raise UserError("; ".join(unpaired))
    reproduce(temporary / "run", {})

    new = {name: json.loads((temporary / "run" / name).read_text()) for name in old}
    fresh = records(temporary / "run")
    known = {name: committed.get(name, {}) for name in fresh}
    rows = compare(old, new, same_environment=known == fresh)
    if known != fresh:
        print(f"\nanother environment than {rev}'s, so accuracies and losses may differ a little:")
        print_environments(rev, known, "here", fresh)
    print_table([("metric", rev, "here", "difference", ""), *rows])
    return conclude(rows, "metrics")


def clone(directory: Path, changes: dict[str, Any], real: bool) -> None:
    """Clone HEAD, without results, with ``changes`` of params.yaml, and the demo's unless ``real``."""
    git("clone", "--quiet", str(PROJECT), str(directory))
    for name in RESULTS:
        shutil.rmtree(directory / name) if (directory / name).is_dir() else (directory / name).unlink(missing_ok=True)
    path = directory / "params.yaml"
    params = read_yaml(path)
    if not real:
        params = merge(params, read_yaml(directory / "tools" / "demo.yaml"))
    path.write_text(yaml.safe_dump(merge(params, changes), sort_keys=False, allow_unicode=True))


def reproduce(directory: Path, variables: dict[str, str]) -> None:
    """Run every stage (--force: even if a cache of the user's holds its outs); UserError if one fails."""
    command = [sys.executable, "-m", "dvc", "repro", "--force"]
    scratch = directory.with_name(f"{directory.name}-tmp")  # torch leaves files there
    scratch.mkdir()
    variables = environment() | variables | {"TMPDIR": str(scratch)}
    # A session of its own, so that Ctrl-C reaches the stages through us, and nothing writes while we clean up.
    with subprocess.Popen(command, cwd=directory, env=variables, start_new_session=True) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise
    if process.returncode:
        raise UserError(f"`dvc repro` failed with exit code {process.returncode}, see above")


def differences(first: Lock, second: Lock) -> tuple[list[Row], list[str]]:
    """A row for every out (path, two hashes, verdict), and the stages that made other outs of the same inputs."""
    rows: list[Row] = []
    blamed = []
    for stage, one in first.items():
        other = second[stage]
        for left, right in zip(one["outs"], other["outs"], strict=True):
            hashes = [out[out["hash"]] for out in (left, right)]
            rows.append((left["path"], *(text[:12] for text in hashes), verdict(hashes[0] == hashes[1])))
        if one["outs"] != other["outs"] and all(one.get(key) == other.get(key) for key in ("cmd", "deps", "params")):
            blamed.append(stage)
    return rows, blamed


def compare(old: dict[str, Any], new: dict[str, Any], same_environment: bool) -> list[Row]:
    """A row for every metric: name, committed, fresh, difference, verdict. Missing on one side is DIFFERENT."""
    before, after = leaves(old), leaves(new)
    rows: list[Row] = []
    for name in sorted(before.keys() | after.keys()):
        left, right = before.get(name, "missing"), after.get(name, "missing")
        key = name.split(".")[-1]
        tolerance = ACCURACY_TOLERANCE if "accuracy" in key else LOSS_TOLERANCE if "loss" in key else 0.0
        moved = right - left if isinstance(left, float) and isinstance(right, float) else None
        judgement = verdict(left == right)
        if left != right and not same_environment:
            if key == "weights_sha256":
                judgement = "not compared"
            elif moved is not None and abs(moved) <= tolerance:
                judgement = "within tolerance"
        rows.append((name, str(left)[:12], str(right)[:12], "" if moved is None else f"{moved:+.6f}", judgement))
    return rows


def verdict(equal: bool) -> str:
    return "equal" if equal else "DIFFERENT"


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    if not isinstance(value, dict):
        return {name: value}
    parts = [leaves(part, f"{name}.{key}".lstrip(".")) for key, part in value.items()]
    return {key: leaf for part in parts for key, leaf in part.items()}


def records(directory: Path) -> Records:
    """The environments that a run recorded, by file."""
    return {f"environment/{path.name}": json.loads(path.read_text()) for path in directory.glob("environment/*.json")}


def print_environments(left: str, old: Records, right: str, new: Records) -> None:
    """A row for every field of the environment, the stages' values side by side."""
    rows: list[Row] = [("environment", left, right, "")]
    for field in dict.fromkeys(field for record in [*old.values(), *new.values()] for field in record):
        sides = [sorted({record.get(field, "") for record in side.values()} - {""}) for side in (old, new)]
        rows.append((field, *(", ".join(values) or "unknown" for values in sides), verdict(sides[0] == sides[1])))
    print_table(rows)


def conclude(rows: list[Row], what: str) -> int:
    """Print the sum of it; 1 if any row is DIFFERENT."""
    different = sum(row[-1] == "DIFFERENT" for row in rows)
    print(f"\n{len(rows)} {what}: {different or 'none'} DIFFERENT")
    return int(bool(different))


def print_table(rows: list[Row]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def git(*arguments: str, error: str = "") -> str:
    """What a git command prints; UserError with ``error``, or git's own last line, if it fails."""
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(error or (done.stderr.strip() or f"git {arguments[0]} failed").splitlines()[-1])
    return done.stdout


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
