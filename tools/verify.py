"""Does HEAD make the same bytes twice? Usage: python -m tools.verify [--real] [--against REV]

Two copies of HEAD run from nothing, the second with everything changed that must not matter, and
every out of every stage is compared. With --against REV one copy runs the real experiment, and its
metrics are compared with those committed at REV.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from dvc.utils.flatten import flatten

from pipeline.base.errors import UserError, for_people
from pipeline.base.files import hex_digest
from pipeline.base.parallel import cpu_workers
from pipeline.data.tables import read_json
from pipeline.params import read_yaml
from tools.commands import DVC, output, run
from tools.merge import merge
from tools.sandbox import PROJECT, RESULTS

Json = dict[str, Any]

METRICS = "metrics.json"
DATASET = "report/dataset.json"
SHOWN = 12  # characters of a digest
# How far the sections of metrics.json may move in another environment, whose rounding differs:
# several times what was measured (README).
TOLERANCES = {
    "test": 0.01,  # accuracies, fractions
    "val": 0.01,
    "calibration_error": 0.01,
    "test_loss": 0.01,  # nats
    "val_loss": 0.01,
}


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        title: of its column.
        values: digests or metrics, nested by name.
        environments: what each stage recorded of where it ran.
    """

    title: str
    values: Json
    environments: Json


@dataclass(frozen=True)
class Result:
    """What a run of every stage left.

    Attributes:
        stages: of dvc.lock, in the order in which they ran.
        digests: MD5 of each out and of dvc.lock.
        pixels: SHA-256 of the decoded pixels of each split.
        metrics: of metrics.json.
        environments: what each stage recorded of where it ran.
    """

    stages: Json
    digests: Json
    pixels: Json
    metrics: Json
    environments: Json


class Row(NamedTuple):
    """A value on both sides, for people."""

    name: str
    old: str
    new: str
    difference: str
    verdict: str


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.verify", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument(
        "--real", action="store_true", help="the real experiment instead of drawn flowers"
    )
    parser.add_argument(
        "--changes",
        metavar="YAML",
        action="append",
        type=yaml.safe_load,
        default=[],
        help="other values of params.yaml: '{train: {precision: bf16}}'; repeatable",
    )
    parser.add_argument(
        "--against", metavar="REV", help="one real run, compared with the metrics committed at REV"
    )
    arguments = parser.parse_args()
    results = [f":!{folder}{name}" for folder in ("", "demo/") for name in RESULTS]
    if output(PROJECT, "git", "status", "--porcelain", "--", ".", *results):
        print("note: HEAD is verified; the working tree has uncommitted changes, which are not")
    with tempfile.TemporaryDirectory(prefix="verify-") as temporary:
        head = Path(temporary) / "head"
        output(PROJECT, "git", "clone", "--quiet", str(PROJECT), str(head))
        folder = "" if arguments.real or arguments.against else "demo"
        changes: Json = {}
        for more in arguments.changes:
            changes = merge(changes, more)
        if arguments.against:
            return compare_with_revision(arguments.against, head, changes)
        return compare_two_runs(head, folder, changes)


def compare_two_runs(head: Path, folder: str, changes: Json) -> int:
    """Run twice and compare all outs; 1 if any differs.

    Args:
        head: a clone of HEAD.
        folder: of it, in which the pipeline runs: "" or demo.
        changes: of params.yaml there.
    """
    print("run 1 of 2", flush=True)
    first = reproduce(head, head.with_name("first"), folder, changes)
    variables = irrelevant_variables(head)
    names = ", ".join(variables)
    print(f"run 2 of 2: other directory, TMPDIR, workers, no cache, {names}", flush=True)
    runtime = {"workers": cpu_workers("auto") + 1, "cache": 0}
    place = head.with_name("another") / "place"
    second = reproduce(head, place, folder, merge(changes, {"runtime": runtime}), variables)

    code = report(
        Side("run 1", first.digests, first.environments),
        Side("run 2", second.digests, second.environments),
        column="file",
        what=f"files, dvc.lock and the outs of {len(first.stages)} stages",
    )
    if code:
        print(first_difference(first, second))
    return code


def irrelevant_variables(head: Path) -> dict[str, str]:
    """Variables of the environment that must not matter, with values that would."""
    settings = head / "matplotlibrc"
    settings.write_text("font.size: 20", encoding="utf-8")
    return {
        "HOME": str(head),
        "HOSTNAME": "somebody-else",
        "LOGNAME": "somebody-else",
        "USER": "somebody-else",
        "LANG": "C",
        "LC_ALL": "C",
        "TZ": "X-14",
        "PYTHONHASHSEED": "1",
        "MATPLOTLIBRC": str(settings),
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "NVIDIA_TF32_OVERRIDE": "1",
        "OMP_DYNAMIC": "true",
        "OMP_THREAD_LIMIT": "1",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    }


def first_difference(first: Result, second: Result) -> str:
    """Where two runs begin to differ: the stages that made other outs of the same inputs.

    The decoded pixels are no out, but explore writes a digest of them.
    """
    stages = [
        name
        for name, stage in first.stages.items()
        if stage != second.stages[name] == stage | {"outs": second.stages[name]["outs"]}
    ]
    names = ", ".join(stages) or "not a stage"
    found = f"first difference (same command, deps and params): {names}"
    splits = [split for split, digest in first.pixels.items() if second.pixels[split] != digest]
    if "explore" in stages and splits:
        return f"{found}; the decoded pixels of {', '.join(splits)}"
    return found


def compare_with_revision(rev: str, head: Path, changes: Json) -> int:
    """Run once and compare metrics.json with the one at ``rev``; 1 if any value is off.

    Raises:
        UserError: ``rev`` has no metrics, or those of other approaches.
    """
    unknown = f"{rev}: no such revision"
    output(PROJECT, "git", "rev-parse", "--quiet", "--verify", f"{rev}^{{commit}}", error=unknown)
    committed = Side(rev, read_committed(PROJECT, rev, METRICS), environments(PROJECT, rev))
    # Said before the run, which takes its time.
    if not committed.values:
        raise UserError(f"{rev}: has no {METRICS}")
    then = committed.values[METRICS]["test"].keys()
    now = merge(read_yaml(head / "params.yaml"), changes)["approaches"].keys()
    if then != now:
        only_then = [f"HEAD has no approach {name}" for name in sorted(then - now)]
        only_now = [f"{rev} has no metrics of {name}" for name in sorted(now - then)]
        raise UserError("; ".join(only_then + only_now))
    result = reproduce(head, head.with_name("run"), "", changes)
    fresh = Side("here", {METRICS: result.metrics}, result.environments)
    return report(committed, fresh, column="metric", what="metrics")


def reproduce(
    head: Path,
    copy: Path,
    folder: str,
    changes: Json,
    variables: Mapping[str, str] | None = None,
) -> Result:
    """Run every stage in a copy of ``head``.

    Args:
        folder: of the copy, in which the pipeline runs.
        changes: of params.yaml there.
        variables: of the environment.

    Raises:
        UserError: a stage failed.
    """
    output(PROJECT, "git", "clone", "--quiet", str(head), str(copy))
    place = copy / folder
    params = merge(read_yaml(place / "params.yaml"), changes)
    text = yaml.safe_dump(params, sort_keys=False, allow_unicode=True)
    (place / "params.yaml").write_text(text, encoding="utf-8")
    start = time.monotonic()
    # --force, because a cache of the user's may hold the outs; TMPDIR, because torch leaves files.
    variables = {"TMPDIR": str(copy.parent)} | dict(variables or {})
    done = run(place, *DVC, "repro", "--force", variables=variables)
    if done.returncode:
        raise UserError(f"`dvc repro` failed with exit code {done.returncode}, see above")
    print(f"took {time.monotonic() - start:.0f} s", flush=True)
    stages = read_yaml(place / "dvc.lock")["stages"]
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
    return Result(
        stages=stages,
        digests=outs | {"dvc.lock": hex_digest(place / "dvc.lock", "md5")},
        pixels=read_json(place / DATASET)["pixels_sha256"],
        metrics=read_json(place / METRICS),
        environments={
            path.name: read_json(path) for path in sorted((place / "environment").glob("*.json"))
        },
    )


def read_committed(repository: Path, rev: str, path: str) -> Json:
    """The JSON files at ``path`` (a file or a folder) by name, as committed at ``rev``."""
    names = output(repository, "git", "ls-tree", "-r", "--name-only", rev, path).splitlines()
    return {name: json.loads(output(repository, "git", "show", f"{rev}:{name}")) for name in names}


def environments(repository: Path, rev: str) -> Json:
    """What each stage recorded of where it ran, as committed at ``rev``."""
    found = read_committed(repository, rev, "environment/")
    return {name.removeprefix("environment/"): record for name, record in found.items()}


def report(old: Side, new: Side, column: str, what: str) -> int:
    """Print old values beside new ones, and the environments if anything differs.

    Args:
        column: title of the names' column.
        what: the values, for the last line.

    Returns:
        1 if any value is DIFFERENT.
    """
    # Of an older commit only the stages that there are now.
    before = {stage: old.environments.get(stage, {}) for stage in new.environments}
    is_same_environment = before == new.environments
    rows = compare(old.values, new.values, is_same_environment)
    different = sum(row.verdict == "DIFFERENT" for row in rows)
    if not is_same_environment:
        print(f"\nanother environment than {old.title}'s, so metrics may differ a little:")
    if different or not is_same_environment:
        fields = compare(recorded_values(before), recorded_values(new.environments), width=None)
        print_table(Row("environment", old.title, new.title, "", ""), fields)
    print_table(Row(column, old.title, new.title, "difference", ""), rows)
    print(f"\n{len(rows)} {what}: {different or 'none'} DIFFERENT")
    return int(bool(different))


def print_table(head: Row, rows: list[Row]) -> None:
    """Print rows in columns, after an empty line."""
    table = pd.DataFrame([head, *rows]).set_index("name")
    print("\n" + table.to_string(header=False, index_names=False))


def compare(
    old: Json, new: Json, is_same_environment: bool = True, width: int | None = SHOWN
) -> list[Row]:
    """A row for every value, nested names joined by dots.

    In another environment metrics may differ by ``TOLERANCES``; what is missing is DIFFERENT.

    Args:
        width: characters to show of a value; None for all.
    """
    before = flatten(old)
    after = flatten(new)
    rows = []
    for name in before | after:
        left = before.get(name, "missing")
        right = after.get(name, "missing")
        difference = ""
        verdict = "equal" if left == right else "DIFFERENT"
        if isinstance(left, float) and isinstance(right, float):
            difference = f"{right - left:+.6f}"
            tolerance = tolerance_of(name)
            if left != right and not is_same_environment and abs(right - left) <= tolerance:
                verdict = "within tolerance"
        rows.append(Row(name, str(left)[:width], str(right)[:width], difference, verdict))
    return rows


def tolerance_of(name: str) -> float:
    """How far a metric may move in another environment, such as metrics.json.test.fine_tuning."""
    section = name.removeprefix(f"{METRICS}.").partition(".")[0]
    return TOLERANCES.get(section, 0.0)


def recorded_values(records: Json) -> Json:
    """The stages' values of every field of the environment, joined."""
    table = pd.DataFrame(list(records.values()))
    return {str(name): ", ".join(sorted(set(values.dropna()))) for name, values in table.items()}


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
