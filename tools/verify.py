"""Does the commit make its results again? Usage: python -m tools.verify [--real] [--against REV]

Two copies of HEAD run from nothing, the second with everything changed that must not matter, and every out of every
stage is compared. With --against REV one copy runs the real experiment, and its metrics are held against REV's.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.repo import Repo
from dvc.utils.flatten import flatten

from pipeline.base.errors import UserError, for_people
from pipeline.base.files import hex_digest
from pipeline.base.parallel import cpu_workers
from pipeline.params import read_yaml
from tools.sandbox import DVC, PROJECT, SOURCES, commit, merge, output, run, update

# How far metrics may move in another environment, which rounds otherwise; several times what was measured (README).
ACCURACY_TOLERANCE = 0.01
LOSS_TOLERANCE = 0.01

Json = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="the real experiment instead of drawn flowers")
    parser.add_argument("--against", metavar="REV", help="one real run, compared with the metrics committed at REV")
    arguments = parser.parse_args()
    if output(PROJECT, "git", "status", "--porcelain", *SOURCES):
        print("note: HEAD is verified; the working tree has uncommitted changes, which are not")
    with tempfile.TemporaryDirectory(prefix="verify-") as temporary:
        head = Path(temporary) / "head"
        output(PROJECT, "git", "clone", "--quiet", str(PROJECT), str(head))
        if arguments.against:
            return against(arguments.against, head)
        return twice({} if arguments.real else read_yaml(head / "tools" / "demo.yaml"), head)


def twice(changes: Json, head: Path) -> int:
    """Run twice with ``changes`` of params.yaml, compare all outs; 1 if any differs."""
    first, second = head.with_name("first"), head.with_name("another") / "place"
    # Directory, TMPDIR and runtime.workers differ already.
    variables = {"HOME": str(head), "PYTHONHASHSEED": "1", "TZ": "X-14", "LANG": "C", "LC_ALL": "C"}
    variables |= dict.fromkeys(("HOSTNAME", "LOGNAME", "USER"), "somebody-else")
    variables |= {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    variables |= {"NVIDIA_TF32_OVERRIDE": "1", "OMP_DYNAMIC": "true", "OMP_THREAD_LIMIT": "1"}
    variables["MATPLOTLIBRC"] = str(head / "matplotlibrc")
    (head / "matplotlibrc").write_text("font.size: 20", encoding="utf-8")
    print("run 1 of 2", flush=True)
    old, hashes = reproduce(head, first, changes)
    print("run 2 of 2: other directory, TMPDIR, workers, " + ", ".join(variables), flush=True)
    changes = merge(changes, {"runtime": {"workers": cpu_workers("auto") + 1}})
    new, new_hashes = reproduce(head, second, changes, **variables)

    known, fresh = (environments(copy, "HEAD") for copy in (first, second))
    what = f"files, dvc.lock and the outs of {len(old)} stages"
    code = report(("file", "run 1", "run 2", "", ""), hashes, new_hashes, known, fresh, what)
    if code:
        blamed = [stage for stage in old if old[stage] != new[stage] == old[stage] | {"outs": new[stage]["outs"]}]
        print(f"to blame (same command, deps and params, other outs): {', '.join(blamed) or 'nothing in dvc.yaml'}")
    return code


def against(rev: str, head: Path) -> int:
    """Run once, compare the metrics with those at ``rev``; 1 if any is off, UserError if it lacks one or has more."""
    output(PROJECT, "git", "rev-parse", "--quiet", "--verify", f"{rev}^{{commit}}", error=f"{rev}: no such revision")
    old, known = committed(PROJECT, rev, "metrics/"), environments(PROJECT, rev)
    if not old:
        raise UserError(f"{rev}: has no metrics")
    made = {out.def_path for out in Repo(str(head)).index.outs if out.metric}
    unpaired = [f"{rev} has no {name}" for name in sorted(made - old.keys())]
    unpaired += [f"HEAD makes no {name}" for name in sorted(old.keys() - made)]
    if unpaired:  # said before the run, which takes its time
        raise UserError("; ".join(unpaired))
    copy = head.with_name("run")
    reproduce(head, copy, {})
    new, fresh = committed(copy, "HEAD", "metrics/"), environments(copy, "HEAD")
    known = {name: known.get(name, {}) for name in fresh}
    return report(("metric", rev, "here", "difference", ""), old, new, known, fresh, "metrics")


def reproduce(head: Path, copy: Path, changes: Json, **variables: Any) -> tuple[Json, Json]:
    """Run every stage in a copy of ``head``; the stages of its dvc.lock, the hashes of all outs and of dvc.lock."""
    update(copy, changes, head)
    # A cache of the user's may hold the outs, hence --force; torch leaves files in TMPDIR.
    if code := run(copy, *DVC, "repro", "--force", TMPDIR=str(copy.parent), **variables).returncode:
        raise UserError(f"`dvc repro` failed with exit code {code}, see above")
    commit(copy, "results")
    stages = read_yaml(copy / "dvc.lock")["stages"]
    hashes = {out["path"]: out[out["hash"]] for stage in stages.values() for out in stage["outs"]}
    return stages, hashes | {"dvc.lock": hex_digest(copy / "dvc.lock", "md5")}


def committed(repository: Path, rev: str, folder: str) -> Json:
    """The JSON files of a folder, as committed at ``rev``."""
    names = output(repository, "git", "ls-tree", "-r", "--name-only", rev, folder).splitlines()
    return {name: json.loads(output(repository, "git", "show", f"{rev}:{name}")) for name in names}


def environments(repository: Path, rev: str) -> Json:
    """The environments that the stages recorded, as committed at ``rev``."""
    return {name: record.get("environment", {}) for name, record in committed(repository, rev, "environment/").items()}


def report(head: tuple[str, ...], old: Json, new: Json, known: Json, fresh: Json, what: str) -> int:
    """Print old values beside new ones, and the environments if anything differs; 1 if any value is DIFFERENT."""
    rows = compare(old, new, same_environment=known == fresh)
    different = sum(row[-1] == "DIFFERENT" for row in rows)
    if known != fresh:
        print(f"\nanother environment than {head[1]}'s, so accuracies and losses may differ a little:")
    tables = [[head, *rows]]
    if different or known != fresh:
        environment = compare(fields(known), fields(fresh), width=None)
        tables.insert(0, [("environment", *head[1:3], "", ""), *environment])
    for table in tables:
        print("\n" + pd.DataFrame(table).set_index(0).to_string(header=False, index_names=False))
    print(f"\n{len(rows)} {what}: {different or 'none'} DIFFERENT")
    return int(bool(different))


def compare(old: Json, new: Json, same_environment: bool = True, width: int | None = 12) -> list[tuple[str, ...]]:
    """A row for every value: name, old, new (cut to ``width``), difference, verdict. Missing ones are DIFFERENT."""
    before, after = flatten(old), flatten(new)
    rows: list[tuple[str, ...]] = []
    for name in before | after:
        left, right = before.get(name, "missing"), after.get(name, "missing")
        key = name.rpartition(".")[2]
        tolerance = ACCURACY_TOLERANCE if "accuracy" in key else LOSS_TOLERANCE if "loss" in key else 0.0
        moved = right - left if isinstance(left, float) and isinstance(right, float) else None
        near = moved is not None and abs(moved) <= tolerance
        elsewhere = "not compared" if key == "weights_sha256" else "within tolerance" if near else "DIFFERENT"
        verdict = "equal" if left == right else "DIFFERENT" if same_environment else elsewhere
        rows.append((name, str(left)[:width], str(right)[:width], "" if moved is None else f"{moved:+.6f}", verdict))
    return rows


def fields(records: Json) -> Json:
    """The stages' values of every field of the environment."""
    table = pd.DataFrame(list(records.values()))
    return {str(field): ", ".join(sorted(set(values.dropna()))) for field, values in table.items()}


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
