"""The whole pipeline in a folder of its own, with other params. Usage: python -m tools.demo [NAME]

NAME is that of the folder, and of the file tools/NAME.yaml with the changes of params.yaml: demo
(offline, on drawn flowers) or strong (one more approach, which reaches more than the article's).
"""

import os
import sys
from pathlib import Path

from pipeline.base.errors import for_people, print_note
from pipeline.params import read_yaml
from tools.sandbox import (
    DVC,
    PROJECT,
    RESULTS,
    commit,
    has_older_experiments,
    is_edited,
    run,
    update,
)


def reproduce(sandbox: Path) -> int:
    """Run the pipeline in a sandbox and print its table; returns DVC's exit code.

    Results become the last commit, with which `dvc metrics diff` compares; but not those of a
    person's edits, so that they can be compared, and their experiments stay with that commit.
    """
    if code := run(sandbox, *DVC, "repro").returncode:
        return code
    if is_edited(sandbox):
        print_note(f"{sandbox.name}/ has edits that are not committed, nor are the results of them")
    else:
        commit(sandbox, "results", *RESULTS)
    if has_older_experiments(sandbox):
        print_note(
            f"{sandbox.name}/ has experiments on older commits: dvc exp show --all-commits lists "
            "them"
        )
    print("\n" + (sandbox / "report" / "comparison.md").read_text(encoding="utf-8"))
    return 0


def activation() -> list[str]:
    """The command to type before others, where make started this and nobody has activated it."""
    is_active = "VIRTUAL_ENV" in os.environ or Path(sys.prefix) != PROJECT / ".venv"
    return [] if is_active else [". .venv/bin/activate"]


def main() -> int:
    name = (sys.argv[1:] or ["demo"])[0]
    update(PROJECT / name, read_yaml(PROJECT / "tools" / f"{name}.yaml"))
    if code := reproduce(PROJECT / name):
        return code
    rate = "approaches.fine_tuning.learning_rates.layer4=3e-4"
    print(f"Report:   {name}/report/index.html, for a browser")
    for command in activation():
        print(f"Activate: {command}")
    print(f"Predict:  python -m pipeline.predict {name}/models/fine_tuning.safetensors IMAGE ...")
    print(f"Play on:  cd {name}, then dvc exp run -S {rate}, dvc metrics diff")
    return 0


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
