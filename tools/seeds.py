"""The experiment over several seeds: how much of a figure is luck. Usage: python -m tools.seeds SEED SEED ...

Each seed is a DVC experiment named seed-N, run beside the workspace: `dvc exp show` lists them, `dvc exp apply seed-N`
brings one here. A seed that ran before comes out of DVC's cache.
"""

import json
import subprocess
import sys
from itertools import combinations

import dvc.api

from pipeline.base.errors import UserError, for_people
from pipeline.params import load_params
from pipeline.report.comparison import label
from pipeline.report.confidence import mean_interval
from tools.sandbox import environment

# row of the table: where the figure stands in metrics/APPROACH.json
ACCURACIES = {"validation accuracy": "val", "**test accuracy**": "test"}


def run_seed(seed: int) -> dict[str, dict[str, float]]:
    """Run the pipeline with ``seed``, as an experiment; the accuracies of every approach, by split.

    Raises:
        UserError: the run failed.
    """
    dvc_exp, name = [sys.executable, "-m", "dvc", "exp"], f"seed-{seed}"
    subprocess.run([*dvc_exp, "remove", "--quiet", name], env=environment(), stderr=subprocess.DEVNULL)
    command = [*dvc_exp, "run", "--temp", "--name", name, "--set-param", f"train.seed={seed}"]
    if subprocess.run(command, env=environment()).returncode:
        raise UserError(f"the run with train.seed = {seed} failed; its own message stands above")
    metrics = {
        approach: json.loads(dvc.api.read(f"metrics/{approach}.json", rev=name))
        for approach in load_params("params.yaml").approaches
    }
    return {
        approach: {split: values[split]["accuracy"] for split in ("val", "test")}
        for approach, values in metrics.items()
    }


def markdown(runs: dict[int, dict[str, dict[str, float]]]) -> str:
    """Mean, range and interval of each approach over the seeds, and the difference of every two within a seed."""
    approaches = list(next(iter(runs.values())))
    rows = [[f"{len(runs)} seeds: {', '.join(map(str, runs))}", *(label(name) for name in approaches)]]
    rows.append(["---"] * (len(approaches) + 1))
    for title, split in ACCURACIES.items():
        values = [[run[approach][split] for run in runs.values()] for approach in approaches]
        rows.append([f"{title}, mean", *(f"{sum(row) / len(row):.1%}" for row in values)])
        rows.append(["lowest to highest", *(f"{min(row):.1%} to {max(row):.1%}" for row in values)])
        intervals = [mean_interval(row) for row in values]
        rows.append(["95 % interval of the mean", *(f"{low:.1%} to {high:.1%}" for low, high in intervals)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    for first, second in combinations(approaches, 2):
        points = [100 * (run[second]["test"] - run[first]["test"]) for run in runs.values()]
        low, high = mean_interval(points)
        lines.append(
            f"\n{label(second)} minus {label(first)}, seed by seed: "
            f"{', '.join(f'{value:+.1f}' for value in points)}; mean {sum(points) / len(points):+.1f} points of test "
            f"accuracy (95 % interval {low:+.1f} to {high:+.1f})."
        )
    lines.append("\nThe test images are the same in every run: the luck of their draw is in none of these intervals.")
    return "\n".join(lines) + "\n"


def main() -> None:
    try:
        seeds = [int(argument) for argument in sys.argv[1:]]
    except ValueError:
        seeds = []
    if len(set(seeds)) < 2 or len(set(seeds)) != len(seeds):
        raise UserError('name two or more different seeds: make seeds SEEDS="0 1 2"')
    print(markdown({seed: run_seed(seed) for seed in seeds}))


if __name__ == "__main__":
    with for_people():
        main()
