"""Does it still reproduce, and what has changed? Usage: python -m tools.check [BASE | --params]

For continuous integration, without data, cache or secrets: holds dvc.lock against code and params, shows params and
metrics beside those of the revision BASE (the pull request's target), and lets the demo run twice. The report is
Markdown, and goes to GitHub's job summary too where there is one.
"""

import json
import os
import sys
from pathlib import Path

from dvc.utils.flatten import flatten

from pipeline.base.environment import environment
from pipeline.base.errors import for_people
from pipeline.params import load_params, read_yaml
from tools.sandbox import DVC, PROJECT, output, run


def main() -> int:
    load_params(PROJECT / "params.yaml")  # all of it, even where no stage has anything to do
    base = sys.argv[1] if len(sys.argv) > 1 else ""
    if base == "--params":
        print("params.yaml: every key is known and every value allowed", *notes(), sep="\n")
        return 0
    locked = output(PROJECT, "git", "ls-files", "dvc.lock")
    stale = changes_since_lock() if locked else []
    say("## Does it still reproduce?\n")
    if stale:
        say("- dvc.lock: **does not fit this code and these params**; run `dvc repro`, commit dvc.lock and metrics/")
        say("".join(f"  - {change}\n" for change in stale))
    elif locked:
        say("- dvc.lock: fits this code and these params")
    else:
        say("- dvc.lock: none is committed, so there is no result to hold against code and params")
    say("".join(f"- {note}\n" for note in notes()))
    differs = run(PROJECT, sys.executable, "-m", "tools.verify").returncode
    say(f"- demo: {'**two runs did not make the same bytes**, see the log' if differs else 'two runs, the same bytes'}")

    unknown = run(PROJECT, "git", "rev-parse", "--verify", f"{base}^{{commit}}", capture=True).returncode
    if base and not unknown:
        for kind in ("params", "metrics"):
            table = run(PROJECT, *DVC, kind, "diff", "--md", base, capture=True).stdout.strip()
            rows = table.splitlines()[2:]  # metrics diff prints the head of a table even when there is no row
            say(f"\n## {kind.capitalize()} against {base}\n\n{table if rows else 'no difference'}")
    else:
        say(f"\nNothing to compare params and metrics with: {f'there is no revision {base}' if base else 'no base'}.")
    return int(bool(stale) or bool(differs))


def changes_since_lock() -> list[str]:
    """What differs from what dvc.lock says, files that are not here left out."""
    changes = []
    for stage, causes in json.loads(output(PROJECT, *DVC, "status", "--json")).items():
        for cause in causes:
            if isinstance(cause, str):  # 'changed command'
                changes.append(f"{stage}: {cause}")
                continue
            for kind, files in cause.items():
                here = {name: state for name, state in files.items() if state not in ("deleted", "not in cache")}
                changes += [f"{stage}: {kind}: {name} {state}" for name, state in flatten(here).items()]
    # DVC's own judgement of the same: it prints the stages that it would run, or fails for want of their inputs.
    dry = run(PROJECT, *DVC, "repro", "--dry", "--allow-missing", capture=True)
    if dry.returncode or "Running stage" in dry.stdout:
        changes = changes or [(dry.stdout + dry.stderr).strip().splitlines()[-1]]
    return changes


def notes() -> list[str]:
    """What dvc.lock does not tell: results that were made in another environment, records of another run."""
    here, others, foreign = environment(), set(), []
    stages = read_yaml(PROJECT / "dvc.lock")["stages"] if (PROJECT / "dvc.lock").exists() else {}
    for stage, entry in stages.items():
        path = PROJECT / "environment" / f"{'-'.join(entry['cmd'].split()[3:])}.json"
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        then, outs = record.get("environment", {}), record.get("outs", {})
        others |= {
            f"{key} {then[key]} (here {here[key]})" for key in here.keys() & then.keys() if then[key] != here[key]
        }
        if not outs or any(outs.get(out["path"], out["md5"]) != out["md5"] for out in entry["outs"]):
            foreign.append(stage)
    found = []
    if others:
        found.append(f"made with {', '.join(sorted(others))}: `dvc repro --force` makes the results here")
    if foreign:
        found.append(f"environment/ has no record, or one of another run, of what dvc.lock has of {', '.join(foreign)}")
    return found


def say(text: str) -> None:
    """Print, and add to GitHub's job summary."""
    print(text, flush=True)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
