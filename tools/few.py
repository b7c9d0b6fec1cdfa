"""How few images are enough? Usage: python -m tools.few COUNTS SEEDS, such as "1 2 5 10" "0 1 2"

Each number of training images per class, with each seed, is a DVC experiment named few-COUNT-SEED,
run beside the workspace; what ran before comes out of DVC's cache. The images of a seed are nested
(those of one count are among those of a larger one), and every training has the same number of
steps (train.images_per_class in params.yaml). Writes report/few_images.csv and .png.
"""

import sys

import pandas as pd

from pipeline.base.errors import UserError, for_people
from pipeline.base.files import atomic
from pipeline.data.tables import write_csv
from pipeline.figures.charts import few_images
from pipeline.figures.style import label, save
from pipeline.params import load_params
from tools.seeds import experiment, numbers

OUTS = ("report/few_images.csv", "report/few_images.png")


def markdown(table: pd.DataFrame) -> str:
    """Mean and range of test accuracy over the seeds, a row for each number of images per class.

    Args:
        table: columns images_per_class, seed, approach, test_accuracy (a fraction).
    """
    approaches = table["approach"].unique()
    seeds = table["seed"].nunique()
    lines = ["| training images per class | " + " | ".join(map(label, approaches)) + " |"]
    lines.append("|---" * (len(approaches) + 1) + "|")
    for count, rows in table.groupby("images_per_class"):
        accuracies = rows.groupby("approach", sort=False)["test_accuracy"]
        spread = accuracies.agg(["mean", "min", "max"])
        cells = [
            f"{mean:.1%} ({low:.1%} to {high:.1%})"
            for mean, low, high in spread.itertuples(index=False)
        ]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    lines.append("")
    lines.append(f"Test accuracy, mean and range of {seeds} seed{'s' * (seeds > 1)}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError('usage: make few COUNTS="1 2 5 10" SEEDS="0 1 2"')
    counts = numbers(sys.argv[1], "COUNTS")
    seeds = numbers(sys.argv[2], "SEEDS")
    dpi = load_params("params.yaml").plots.dpi
    rows = []
    for seed in seeds:
        for count in sorted(counts):
            found = experiment(f"few-{count}-{seed}", seed=seed, images_per_class=count)
            for name, accuracies in found.items():
                row = {"images_per_class": count, "seed": seed, "approach": name}
                rows.append(row | {"test_accuracy": accuracies["test"]})
    table = pd.DataFrame(rows)
    with atomic(*OUTS) as (table_file, figure_file):
        write_csv(table_file, table)
        save(few_images(table), figure_file, dpi)
    print(markdown(table), ", ".join(OUTS), sep="\n")


if __name__ == "__main__":
    with for_people():
        main()
