"""The whole pipeline on drawn flowers, offline, in demo/. Usage: python -m tools.demo

demo/ is a DVC project beside the real one: the same dvc.yaml and code, other params, and results
that are committed. Prints at the end what came out here beside what is committed.
"""

import json
import sys
from collections.abc import Mapping
from html import escape

from pipeline.base.errors import UserError, for_people, print_note
from pipeline.data.tables import read_json
from pipeline.figures.style import label
from tools.commands import run
from tools.reproduce import next_lines, reproduce
from tools.sandbox import PROJECT, commit

DEMO = PROJECT / "demo"
METRICS = "metrics.json"
BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{text}">
<rect width="{width}" height="20" rx="3" fill="#0072b2"/>
<text x="{middle}" y="14" fill="#fff" font-family="sans-serif" font-size="11" \
text-anchor="middle">{text}</text>
</svg>
"""


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
    metrics = read_json(DEMO / METRICS)
    (DEMO / "badge.svg").write_text(badge(metrics["test"]), encoding="utf-8")
    print(*beside(metrics["test"], committed), "", *next_lines("demo"), sep="\n")
    return 0


def make_repository() -> None:
    """Make a git repository of a project that came without one, as in a ZIP file from GitHub."""
    if run(PROJECT, "git", "rev-parse", "--git-dir", capture=True).returncode == 0:
        return
    run(PROJECT, "git", "init", "--quiet")
    commit(PROJECT, "the project as it came", by_nobody=True)
    print_note("there was no git repository, which DVC needs: made one, with all files committed")


def committed_accuracies() -> dict[str, float]:
    """Test accuracy of each approach as committed; empty if none is."""
    shown = run(DEMO, "git", "show", f"HEAD:./{METRICS}", capture=True)
    if shown.returncode:
        return {}
    return dict(json.loads(shown.stdout)["test"])


def badge(accuracies: Mapping[str, float]) -> str:
    """README's badge with the test accuracies of all approaches, as SVG."""
    words = ", ".join(f"{label(name)} {value:.1%}" for name, value in accuracies.items())
    text = escape(f"demo, test accuracy: {words}")
    width = 6 * len(text)  # pixels that a letter takes, and some more
    return BADGE.format(text=text, width=width, middle=width // 2)


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
