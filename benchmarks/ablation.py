"""What each part of the strong recipe gives, on validation only. Usage:

    python -m benchmarks.ablation OUT.csv JOBS SEED ...    computes
    python -m benchmarks.ablation OUT.csv                  prints the table, and draws OUT.png

Each part is put into the article's recipe, and taken out of the strong one. To be started where
`dvc repro` has made data/ (in strong/): trains every variant with every seed, JOBS at a time, and
writes a row for each: recipe, change, seed, validation accuracy (a fraction) and loss (nats) of the
last epoch. Rows that OUT.csv has are not computed again; those deleted from it are.
"""

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.measure import scratch_folder
from pipeline.figures.style import COLOURS, GREY, save
from pipeline.params import read_yaml
from pipeline.report.statistics import mean_interval
from tools.commands import environment
from tools.sandbox import PROJECT

Approach = dict[str, Any]

COLUMNS = ["recipe", "change", "seed", "val_accuracy", "val_loss"]
UNCHANGED = "nothing"
ARTICLE: Approach = {
    "resize": 256,
    "crop": 224,
    "learning_rates": {"layer4": 1e-4, "fc": 1e-3},
    "precision": "bf16",
}
PARTS = {  # settings of an approach that go together
    "epochs": ["epochs"],
    "more layers, learning rates": ["learning_rates"],
    "cosine, warm-up": ["schedule", "warm_up"],
    "label smoothing": ["label_smoothing"],
    "larger images": ["resize", "crop", "train_crop"],
    "larger squares in evaluation": ["train_crop"],
}


class Variant(NamedTuple):
    """A recipe (strong or article), what was changed in it, and the approach that results."""

    recipe: str
    change: str
    approach: Approach


def variants(strong: Approach) -> list[Variant]:
    """All that are compared, the strong ones first."""
    rows = [Variant("strong", UNCHANGED, strong)]
    for part, keys in PARTS.items():
        without = {key: value for key, value in strong.items() if key not in keys}
        without |= {key: ARTICLE[key] for key in keys if key in ARTICLE}
        rows.append(Variant("strong", f"without {part}", without))
    rows.append(Variant("article", UNCHANGED, ARTICLE))
    for part, keys in PARTS.items():
        with_part = ARTICLE | {key: strong[key] for key in keys}
        if keys == ["train_crop"]:
            with_part |= {"crop": ARTICLE["resize"], "train_crop": ARTICLE["crop"]}
        rows.append(Variant("article", f"with {part}", with_part))
    return rows


def train(approach: Approach, seed: int, project: Path) -> tuple[float, float]:
    """Validation accuracy and loss after the last epoch, by the stage train.

    Raises:
        RuntimeError: the training failed.
    """
    params = read_yaml(project / "params.yaml")
    params |= {"approaches": {"variant": approach}, "published": {}, "export": []}
    params["train"]["seed"] = seed
    with scratch_folder(project, params) as folder:
        command = [sys.executable, "-m", "stages", "train", "variant"]
        done = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True
        )
        if done.returncode:
            printed = f"{done.stdout[-500:]}{done.stderr[-2000:]}"
            raise RuntimeError(f"{json.dumps(approach)}\n{printed}")
        last = pd.read_csv(folder / "history/variant.csv").iloc[-1]
        return float(last["val_accuracy"]), float(last["val_loss"])


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """What each change does, over the seeds that it and the unchanged recipe have in common.

    Returns:
        A row a change: recipe, change, seeds (their number), accuracy and loss (means), points
        (mean difference of validation accuracy), low and high (its 95 % interval, paired by seed,
        by Student's t; empty for a single seed).
    """
    found = []
    for recipe, table in rows.groupby("recipe", sort=False):
        accuracy = table.pivot(index="seed", columns="change", values="val_accuracy")
        loss = table.pivot(index="seed", columns="change", values="val_loss")
        for change in accuracy.columns.drop(UNCHANGED):
            points = 100 * (accuracy[change] - accuracy[UNCHANGED]).dropna()
            low, high = mean_interval(points.tolist()) if len(points) > 1 else (math.nan, math.nan)
            row = {
                "recipe": recipe,
                "change": change,
                "seeds": len(points),
                "accuracy": accuracy[change].mean(),
                "loss": loss[change].mean(),
                "points": points.mean(),
                "low": low,
                "high": high,
            }
            found.append(row)
    return pd.DataFrame(found).sort_values(["recipe", "points"], ignore_index=True)


def draw(table: pd.DataFrame, path: Path) -> None:
    """A dot for each change with its interval; hollow where there is only one seed."""
    recipes = table["recipe"].unique()
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, len(recipes), squeeze=False)[0]
    for axes, recipe, colour in zip(panels, recipes, COLOURS, strict=False):
        rows = table[table["recipe"] == recipe]
        axes.axvline(0, color=GREY, lw=1)
        for place, row in enumerate(rows.itertuples()):
            is_single = pd.isna(row.low)
            inside = "white" if is_single else colour
            axes.plot(row.points, place, "o", color=colour, mfc=inside, zorder=3)
            if not is_single:
                axes.plot([row.low, row.high], [place, place], color=colour)
        axes.set_yticks(range(len(rows)), rows["change"])
        axes.set(title=f"{recipe} recipe", xlabel="points of validation accuracy")
        axes.grid(axis="y", visible=False)
    save(figure, path, dpi=120)


def compute(out: Path, jobs: int, seeds: list[int]) -> None:
    """Train what ``out`` does not have, ``jobs`` at a time, and add a row for each."""
    strong = read_yaml(PROJECT / "tools/strong.yaml")["approaches"]["strong_fine_tuning"]
    project = Path.cwd()
    rows: list[Any] = pd.read_csv(out).to_dict("records") if out.exists() else []
    known = {(row["recipe"], row["change"], row["seed"]) for row in rows}

    def run(variant: Variant, seed: int) -> None:
        accuracy, loss = train(variant.approach, seed, project)
        values = [variant.recipe, variant.change, seed, accuracy, round(loss, 4)]
        rows.append(dict(zip(COLUMNS, values, strict=True)))
        pd.DataFrame(rows, columns=COLUMNS).to_csv(out, index=False, lineterminator="\n")
        print(*values, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        tasks = [
            pool.submit(run, variant, seed)
            for seed in seeds
            for variant in variants(strong)
            if (variant.recipe, variant.change, seed) not in known
        ]
    for task in tasks:
        task.result()


def main() -> None:
    out = Path(sys.argv[1])
    if len(sys.argv) > 2:
        compute(out, int(sys.argv[2]), [int(seed) for seed in sys.argv[3:]])
        return
    table = effects(pd.read_csv(out))
    draw(table, out.with_suffix(".png"))
    print(table.to_string(index=False, float_format="%.3f", na_rep=""))


if __name__ == "__main__":
    main()
