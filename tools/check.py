"""Does it still reproduce, and what has changed? Usage: python -m tools.check [BASE | --params]

For continuous integration, without data, cache or secrets: compares dvc.lock with code and params,
runs the demo twice, shows params and metrics beside those of the revision BASE (the pull request's
target), and the demo beside that of BASE. The report is Markdown, and goes to GitHub's job summary
too where there is one; reports and plots of both demos are left in check/.

Exits with 1 if dvc.lock does not fit, if two runs of the demo differ, or if a test accuracy of the
demo is lower than at BASE by more than two points.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.utils.flatten import flatten

from pipeline.base.environment import environment
from pipeline.base.errors import UserError, for_people
from pipeline.params import load_params
from tools import compare
from tools.commands import DVC, output, run
from tools.sandbox import PROJECT

KEPT = PROJECT / "check"


def main() -> int:
    load_params(PROJECT / "params.yaml")  # all of it, even where no stage has anything to do
    base = sys.argv[1] if len(sys.argv) > 1 else ""
    if base == "--params":
        print("params.yaml: every key is known and every value allowed")
        if other := other_environment(PROJECT):
            print(other)
        return 0
    say("## Does it still reproduce?\n")
    lock_fits = [check_lock(PROJECT), check_lock(PROJECT / "demo")]
    demo_reproduces = check_demo()
    is_as_good = True
    if is_revision(base):
        compare_with(base)
        is_as_good = compare_demos(base)
    else:
        reason = f"there is no revision {base}" if base else "no base"
        say(f"\nNothing to compare with: {reason}.")
    return int(not (all(lock_fits) and demo_reproduces and is_as_good))


def check_lock(folder: Path) -> bool:
    """Say whether dvc.lock, if one is committed, belongs to this code and these params."""
    name = (folder / "dvc.lock").relative_to(PROJECT).as_posix()
    if not output(folder, "git", "ls-files", "dvc.lock"):
        say(f"- {name}: none is committed, so there is no result to compare")
        return True
    changes = changes_since_lock(folder)
    if changes:
        say(
            f"- {name}: **does not fit this code and these params**; "
            "run `dvc repro` there, commit what it changes"
        )
        say("".join(f"  - {change}\n" for change in changes))
    else:
        say(f"- {name}: fits this code and these params")
    if other := other_environment(folder):
        say(f"- {other}")
    return not changes


def changes_since_lock(folder: Path) -> list[str]:
    """How the project differs from what dvc.lock says; files that are not here are left out."""
    changes = []
    for stage, causes in json.loads(output(folder, *DVC, "status", "--json")).items():
        for cause in causes:
            changes += [f"{stage}: {text}" for text in described(cause)]
    # DVC's own judgement of the same: it prints the stages that it would run, or fails because it
    # has not their inputs.
    dry = run(folder, *DVC, "repro", "--dry", "--allow-missing", capture=True)
    if not changes and (dry.returncode or "Running stage" in dry.stdout):
        changes.append((dry.stdout + dry.stderr).strip().splitlines()[-1])
    return changes


def described(cause: str | Mapping[str, Any]) -> list[str]:
    """What `dvc status` gives as a cause, a line each."""
    if isinstance(cause, str):  # such as 'changed command'
        return [cause]
    lines = []
    for kind, files in cause.items():
        here = {
            name: state for name, state in files.items() if state not in ("deleted", "not in cache")
        }
        lines += [f"{kind}: {name} {state}" for name, state in flatten(here).items()]
    return lines


def other_environment(folder: Path) -> str:
    """In what the results were made elsewhere, by the stages' records; empty if in nothing."""
    here = environment()
    others = set()
    for path in sorted((folder / "environment").glob("*.json")):
        then = json.loads(path.read_text(encoding="utf-8"))
        for key in here.keys() & then.keys():
            if then[key] != here[key]:
                others.add(f"{key} {then[key]} (here {here[key]})")
    if not others:
        return ""
    return f"made with {', '.join(sorted(others))}: `dvc repro --force` makes the results here"


def check_demo() -> bool:
    """Run the demo twice and say whether the bytes were the same."""
    differs = run(PROJECT, sys.executable, "-m", "tools.verify").returncode
    if differs:
        say("- demo: **two runs did not make the same bytes**, see the log")
    else:
        say("- demo: two runs, the same bytes")
    return not differs


def is_revision(base: str) -> bool:
    """Whether this repository has a commit of that name."""
    command = ("git", "rev-parse", "--verify", f"{base}^{{commit}}")
    return bool(base) and not run(PROJECT, *command, capture=True).returncode


def compare_demos(base: str) -> bool:
    """Show the demo beside that of ``base``; False if a test accuracy fell beyond the tolerance."""
    say(f"\n## The demo against {base}\n")
    with tempfile.TemporaryDirectory(prefix="check-") as temporary:
        head_demo = compare.run_demo("HEAD", Path(temporary) / "head")
        try:
            base_demo = compare.run_demo(base, Path(temporary) / "base")
        except UserError as error:
            say(f"Nothing to compare with: {error}.")
            return True
        say(compare.tables(base_demo, head_demo))
        say("\n" + compare.charts(base_demo, head_demo))
        compare.keep(base_demo, head_demo, KEPT)
        fallen = compare.worse(base_demo, head_demo)
    for line in fallen:
        say(f"- **worse by more than {100 * compare.TOLERANCE:.0f} points**: {line}")
    return not fallen


def compare_with(base: str) -> None:
    """Show params and metrics beside those of the revision ``base``."""
    for folder, words in ((PROJECT, ""), (PROJECT / "demo", " of the demo")):
        for kind in ("params", "metrics"):
            table = run(folder, *DVC, kind, "diff", "--md", base, capture=True).stdout.strip()
            rows = table.splitlines()[2:]  # without differences, `dvc metrics diff` prints the head
            found = table if rows else "no difference"
            say(f"\n## {kind.capitalize()}{words} against {base}\n\n{found}")


def say(text: str) -> None:
    """Print, and add to GitHub's job summary."""
    print(text, flush=True)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
