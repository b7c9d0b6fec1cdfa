"""The experiment over several seeds: how much of a figure is luck. Usage: python -m tools.seeds SEED SEED ...

Each seed is a DVC experiment named seed-N, run beside the workspace: `dvc exp show` lists them, `dvc exp apply seed-N`
brings one here. A seed that ran before comes out of DVC's cache.
"""

import io
import sys
from itertools import combinations
from statistics import fmean

import dvc.api
import pandas as pd

from pipeline.base.errors import UserError, for_people
from pipeline.report.confidence import mean_interval
from pipeline.report.style import label
from tools.sandbox import DVC, PROJECT, run

Accuracies = dict[str, dict[str, float]]  # by approach and split


def experiment(name: str, **settings: object) -> Accuracies:
    """Run the pipeline with ``settings`` of params.yaml's section train, as an experiment; UserError if it fails."""
    changes = [f"--set-param=train.{key}={value}" for key, value in settings.items()]
    run(PROJECT, *DVC, "exp", "remove", "--quiet", name, capture=True)  # there may be none
    if run(PROJECT, *DVC, "exp", "run", "--temp", "--name", name, *changes).returncode:
        raise UserError(f"the experiment {name} failed; its own message stands above")
    # Not metrics/, which an experiment holds only where git tracks them.
    table = pd.read_csv(io.StringIO(dvc.api.read("report/comparison.csv", rev=name))).set_index("approach")
    return {str(name): {split: row[f"{split}_accuracy"] for split in ("val", "test")} for name, row in table.iterrows()}


def markdown(runs: dict[int, Accuracies]) -> str:
    """Mean, range and interval of each approach over the seeds, and the difference of every two within a seed."""
    approaches = list(next(iter(runs.values())))
    rows = [[f"{len(runs)} seeds: {', '.join(map(str, runs))}", *map(label, approaches)]]
    rows.append(["---"] * len(rows[0]))
    for title, split in (("validation accuracy", "val"), ("**test accuracy**", "test")):
        values = [[run[approach][split] for run in runs.values()] for approach in approaches]
        rows.append([f"{title}, mean", *(f"{fmean(row):.1%}" for row in values)])
        rows.append(["lowest to highest", *(f"{min(row):.1%} to {max(row):.1%}" for row in values)])
        intervals = map(mean_interval, values)
        rows.append(["95 % interval of the mean", *(f"{low:.1%} to {high:.1%}" for low, high in intervals)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    for first, second in combinations(approaches, 2):
        points = [100 * (run[second]["test"] - run[first]["test"]) for run in runs.values()]
        low, high = mean_interval(points)
        differences = ", ".join(f"{value:+.1f}" for value in points)
        lines.append(
            f"\n{label(second)} minus {label(first)}, seed by seed: {differences}; mean {fmean(points):+.1f} points of "
            f"test accuracy (95 % interval {low:+.1f} to {high:+.1f})."
        )
    lines.append("\nThe test images are the same in every run: the luck of their draw is in none of these intervals.")
    return "\n".join(lines) + "\n"


def numbers(text: str, key: str, least: int = 1) -> list[int]:
    """The numbers that a variable of make holds, such as "0 1 2"; UserError unless ``least`` or more, all different."""
    found = [int(word) for word in text.split() if word.isdecimal()]
    if len(set(found)) < max(least, len(text.split())):
        raise UserError(f'{key}="{text}": name {"two or more" if least == 2 else "one or more"} different numbers')
    return found


def main() -> None:
    seeds = numbers(" ".join(sys.argv[1:]), "SEEDS", least=2)
    print(markdown({seed: experiment(f"seed-{seed}", seed=seed) for seed in seeds}))


if __name__ == "__main__":
    with for_people():
        main()
