"""Run the pipeline in a folder, as `make demo`, `make own` and `make strong` do."""

import os
import sys
from pathlib import Path

from pipeline.base.errors import print_note
from tools.commands import DVC, run
from tools.sandbox import PROJECT, RESULTS, commit, has_older_experiments, is_edited


def reproduce(folder: Path) -> int:
    """Run the pipeline in a folder and print its table; returns DVC's exit code."""
    if code := run(folder, *DVC, "repro").returncode:
        return code
    print("\n" + (folder / "report" / "comparison.md").read_text(encoding="utf-8"))
    return 0


def reproduce_sandbox(sandbox: Path) -> int:
    """Run the pipeline in a copy of the project and print its table; returns DVC's exit code.

    Results become the last commit, with which `dvc metrics diff` compares; but not those of a
    person's edits, so that they can be compared, and their experiments stay with that commit.
    """
    if code := reproduce(sandbox):
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
    return 0


def activation() -> list[str]:
    """The command to type before others, where make started this and nobody has activated it."""
    is_active = "VIRTUAL_ENV" in os.environ or Path(sys.prefix) != PROJECT / ".venv"
    return [] if is_active else [". .venv/bin/activate"]


def next_lines(name: str) -> list[str]:
    """What to do with the results in the folder ``name``, a line each."""
    rate = "approaches.fine_tuning.learning_rates.layer4=3e-4"
    return [
        f"Report:   {name}/report/index.html, for a browser",
        *(f"Activate: {command}" for command in activation()),
        f"Predict:  python -m pipeline.predict {name}/models/fine_tuning.safetensors IMAGE ...",
        f"Play on:  cd {name}, then dvc exp run -S {rate}, dvc metrics diff",
    ]
