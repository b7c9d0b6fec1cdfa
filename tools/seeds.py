"""The experiment with several seeds: how much of a figure is luck.

Usage: python -m tools.seeds SEED SEED ...

Each seed is a DVC experiment named seed-N, run beside the workspace: `dvc exp show` lists them,
`dvc exp apply seed-N` brings one here. A seed that ran before comes out of DVC's cache; what does
not depend on the seed comes out of .cache/.
"""

import io
import sys
from itertools import combinations
from pathlib import Path
from statistics import fmean

import dvc.api
import pandas as pd

from pipeline.base.errors import UserError, for_people
from pipeline.figures.style import label
from pipeline.report.statistics import mean_interval
from tools.commands import DVC, output, run

Accuracies = dict[str, dict[str, float]]  # by approach and split


def experiment(name: str, **settings: object) -> Accuracies:
    """Run the pipeline as a DVC experiment.

    Args:
        settings: of the section train of params.yaml.

    Raises:
        UserError: it failed.
    """
    changes = [f"--set-param=train.{key}={value}" for key, value in settings.items()]
    # There may be none of that name.
    here = Path.cwd()
    run(here, *DVC, "exp", "remove", "--quiet", name, capture=True)
    done = run(here, *DVC, "exp", "run", "--temp", "--name", name, *changes)
    if done.returncode:
        raise UserError(f"the experiment {name} failed; its own message stands above")
    # Not metrics.json, which an experiment holds only where git tracks it.
    folder = output(here, "git", "rev-parse", "--show-prefix").strip()  # demo/, or nothing
    text = dvc.api.read(f"{folder}report/comparison.csv", rev=name)
    table = pd.read_csv(io.StringIO(text)).set_index("approach")
    return {
        str(approach): {split: row[f"{split}_accuracy"] for split in ("val", "test")}
        for approach, row in table.iterrows()
    }


def markdown(runs: dict[int, Accuracies]) -> str:
    """Mean, range and interval of each approach, and the difference of every two within a seed."""
    approaches = list(next(iter(runs.values())))
    seeds = ", ".join(map(str, runs))
    rows = [[f"{len(runs)} seeds: {seeds}", *map(label, approaches)]]
    rows.append(["---"] * len(rows[0]))
    for title, split in (("validation accuracy", "val"), ("**test accuracy**", "test")):
        values = [[run[approach][split] for run in runs.values()] for approach in approaches]
        rows.append([f"{title}, mean", *(f"{fmean(row):.1%}" for row in values)])
        rows.append(["lowest to highest", *(range_of(min(row), max(row)) for row in values)])
        if len(runs) > 2:  # of two values an interval says nothing
            intervals = map(mean_interval, values)
            rows.append(["95 % interval of the mean", *(range_of(*ends) for ends in intervals)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    for first, second in combinations(approaches, 2):
        points = [100 * (run[second]["test"] - run[first]["test"]) for run in runs.values()]
        differences = ", ".join(f"{value:+.1f}" for value in points)
        interval = ""
        if len(runs) > 2:
            low, high = mean_interval(points)
            interval = f" (95 % interval {low:+.1f} to {high:+.1f})"
        lines.append(
            f"\n{label(second)} minus {label(first)}, seed by seed: {differences}; "
            f"mean {fmean(points):+.1f} points of test accuracy{interval}."
        )
    lines.append("\nThe test images are the same in every run, so no interval covers their choice.")
    return "\n".join(lines) + "\n"


def range_of(low: float, high: float) -> str:
    """Two fractions as percentages."""
    return f"{low:.1%} to {high:.1%}"


def numbers(text: str, key: str, least: int = 1) -> list[int]:
    """The numbers that a variable of make holds, such as "0 1 2".

    Raises:
        UserError: they are not ``least`` (1 or 2) or more, all different.
    """
    found = [int(word) for word in text.split() if word.isdecimal()]
    if len(set(found)) < max(least, len(text.split())):
        count = "two or more" if least == 2 else "one or more"
        raise UserError(f'{key}="{text}": name {count} different numbers')
    return found


def main() -> None:
    seeds = numbers(" ".join(sys.argv[1:]), "SEEDS", least=2)
    print(markdown({seed: experiment(f"seed-{seed}", seed=seed) for seed in seeds}))


if __name__ == "__main__":
    with for_people():
        main()
