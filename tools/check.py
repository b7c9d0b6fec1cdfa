"""Does it still reproduce, and what has changed? Usage: python -m tools.check [BASE | --params]

For continuous integration, without data, cache or secrets: holds dvc.lock against code and params, shows params and
metrics beside those of the revision BASE (the pull request's target), and lets the demo run twice. The report is
Markdown, and goes to GitHub's job summary too where there is one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.base.errors import UserError, for_people
from pipeline.params import load_params
from tools.sandbox import PROJECT, environment

# What `dvc status` says of files that are merely not here.
ABSENT = {"deleted", "not in cache"}


def main() -> int:
    load_params(PROJECT / "params.yaml")  # all of it, even where no stage has anything to do
    base = sys.argv[1] if len(sys.argv) > 1 else ""
    if base == "--params":
        print("params.yaml: every key is known and every value allowed")
        return 0
    stale = changes_since_lock()
    say("## Does it still reproduce?\n")
    if stale is None:
        say("- dvc.lock: none is committed, so there is no result to hold against code and params")
    elif stale:
        say("- dvc.lock: **does not fit this code and these params**; run `dvc repro`, commit dvc.lock and metrics/")
        say("".join(f"  - {change}\n" for change in stale))
    else:
        say("- dvc.lock: fits this code and these params")
    sys.stdout.flush()
    differs = subprocess.run([sys.executable, "-m", "tools.verify"], cwd=PROJECT, env=environment()).returncode
    say(f"- demo: {'**two runs did not make the same bytes**, see the log' if differs else 'two runs, the same bytes'}")

    if base and not run("git", "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}").returncode:
        for kind in ("params", "metrics"):
            table = run(sys.executable, "-m", "dvc", kind, "diff", "--md", base).stdout.strip()
            rows = table.splitlines()[2:]  # metrics diff prints the head of a table even when there is no row
            say(f"\n## {kind.capitalize()} against {base}\n\n{table if rows else 'no difference'}")
    else:
        say(f"\nNothing to compare params and metrics with: {f'there is no revision {base}' if base else 'no base'}.")
    return int(bool(stale) or bool(differs))


def changes_since_lock() -> list[str] | None:
    """What differs from what dvc.lock says, files that are not here left out; None without a committed dvc.lock."""
    if run("git", "ls-files", "--error-unmatch", "dvc.lock").returncode:
        return None
    status = run(sys.executable, "-m", "dvc", "status", "--json")
    if status.returncode:
        raise UserError(f"dvc status failed: {(status.stderr.strip() or 'it says nothing').splitlines()[-1]}")
    changes = []
    for stage, causes in json.loads(status.stdout).items():
        for cause in causes:
            if isinstance(cause, str):  # 'changed command'
                changes.append(f"{stage}: {cause}")
                continue
            for kind, files in cause.items():
                for name, state in files.items():
                    params = [f"{key} {what}" for key, what in state.items()] if isinstance(state, dict) else []
                    if params or state not in ABSENT:
                        changes.append(f"{stage}: {kind}: {', '.join(params) or f'{name} {state}'}")
    # DVC's own judgement of the same: it prints the stages that it would run, or fails for want of their inputs.
    dry = run(sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing")
    if dry.returncode or "Running stage" in dry.stdout:
        changes = changes or [(dry.stdout + dry.stderr).strip().splitlines()[-1]]
    return changes


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=PROJECT, env=environment(), capture_output=True, text=True)


def say(text: str) -> None:
    """Print, and add to GitHub's job summary."""
    print(text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
