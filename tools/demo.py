"""The whole pipeline on drawn flowers, offline, in demo/. Usage: python -m tools.demo

demo/ is a DVC project beside the real one: the same dvc.yaml and code, other params, and results
that are committed. Prints at the end what came out here beside what is committed.
"""

import json
import sys
from collections.abc import Mapping

from pipeline.base.errors import UserError, for_people, print_note
from pipeline.figures.style import label
from tools.reproduce import next_lines, reproduce
from tools.sandbox import PROJECT, commit_all, run

DEMO = PROJECT / "demo"
METRICS = "metrics.json"


def main() -> int:
    if not (DEMO / "stages").is_dir():
        raise UserError(
            "demo/stages should be a link to stages/, and whatever unpacked the project made none; "
            "use git clone, or unzip"
        )
    make_repository()
    committed = committed_accuracies()
    if code := reproduce(DEMO):
        return code
    metrics = json.loads((DEMO / METRICS).read_text(encoding="utf-8"))
    print(*beside(metrics["test"], committed), "", *next_lines("demo"), sep="\n")
    return 0


def make_repository() -> None:
    """Make a git repository of a project that came without one, as in a ZIP file from GitHub."""
    if run(PROJECT, "git", "rev-parse", "--git-dir", capture=True).returncode == 0:
        return
    run(PROJECT, "git", "init", "--quiet")
    commit_all(PROJECT, "the project as it came")
    print_note("there was no git repository, which DVC needs: made one, with all files committed")


def committed_accuracies() -> dict[str, float]:
    """Test accuracy of each approach as committed; empty if none is."""
    shown = run(DEMO, "git", "show", f"HEAD:./{METRICS}", capture=True)
    if shown.returncode:
        return {}
    return dict(json.loads(shown.stdout)["test"])


def beside(here: Mapping[str, float], committed: Mapping[str, float]) -> list[str]:
    """Test accuracies here and as committed, and why they differ, a line each.

    Args:
        here, committed: accuracies of approaches, fractions.
    """
    lines = []
    for name in here.keys() & committed.keys():
        points = 100 * (here[name] - committed[name])
        lines.append(
            f"{label(name)}: {here[name]:.1%}, committed {committed[name]:.1%} ({points:+.1f})"
        )
    lines = [f"Test accuracy of {line}" for line in sorted(lines)]
    if any(here[name] != committed[name] for name in here.keys() & committed.keys()):
        lines.append(
            "Last digits differ from CPU to CPU, which add in different orders; more than that is "
            "the work of an edit (dvc params diff, git diff)."
        )
    return lines


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
