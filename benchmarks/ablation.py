"""What each part of the strong recipe gives, on validation alone: into the article's recipe, and out of the strong one.

Usage, from a folder in which `dvc repro` has made data/ (strong/): python -m benchmarks.ablation OUT.csv JOBS SEED...
Trains every variant with every seed, JOBS at a time, and writes a row for each: recipe, change, seed, validation
accuracy (a fraction) and loss (nats) of the last epoch, seconds. Rows that OUT.csv has are not computed again.
`python -m benchmarks.ablation OUT.csv` alone prints the table, and draws OUT.png.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from matplotlib.figure import Figure

from pipeline.params import read_yaml
from pipeline.report.confidence import mean_interval
from pipeline.report.style import COLOURS, GREY, save
from tools.sandbox import PROJECT, environment, merge

COLUMNS = ["recipe", "change", "seed", "val_accuracy", "val_loss", "seconds"]
ARTICLE: dict[str, Any] = {
    "initial": "backbone",
    "input": "pixels",
    "learning_rates": {"layer4": 1e-4, "fc": 1e-3},
    "precision": "bf16",
}
PARTS = {  # keys of an approach that go together
    "epochs": ("epochs",),
    "more layers, learning rates": ("learning_rates",),
    "cosine, warm-up": ("schedule", "warm_up"),
    "label smoothing": ("label_smoothing",),
    "weight decay": ("weight_decay",),
    "resized crop": ("resized_crop",),
    "larger images": ("input",),
}


def variants(strong: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Recipe, what was changed in it, the approach. The strong ones first."""
    small = {"size": 224, "scale": strong["resized_crop"]["scale"]}
    rows = [("strong", "nothing", strong)]
    for part, keys in PARTS.items():
        out = {key: value for key, value in strong.items() if key not in keys} | {
            key: ARTICLE[key] for key in keys if key in ARTICLE
        }
        rows.append(("strong", f"without {part}", out | ({"resized_crop": small} if part == "larger images" else {})))
    rows.append(("article", "nothing", ARTICLE))
    for part, keys in PARTS.items():
        own = ARTICLE | {key: strong[key] for key in keys}
        rows.append(("article", f"with {part}", own | ({"resized_crop": small} if part == "resized crop" else {})))
    return rows


def train(approach: dict[str, Any], seed: int, data: Path, params: dict[str, Any]) -> tuple[float, float]:
    """Validation accuracy and loss after the last epoch, by the stage as it is, in a folder of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        changes = {"approaches": {"variant": approach}, "train": {"seed": seed}, "published": {}, "export": []}
        (folder / "params.yaml").write_text(
            yaml.safe_dump(merge(params | {"approaches": {}, "published": {}}, changes))
        )
        for name in ("data", "stages", "pipeline"):
            (folder / name).symlink_to(data.parent / name if name == "data" else PROJECT / name)
        command = [sys.executable, "-m", "stages", "train", "variant"]
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{json.dumps(approach)}\n{done.stdout[-500:]}{done.stderr[-2000:]}")
        last = pd.read_csv(folder / "history/variant.csv").iloc[-1]
        return float(last["val_accuracy"]), float(last["val_loss"])


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """What each change does to validation accuracy, over the seeds that it and the unchanged recipe have in common.

    Returns:
        A row a change: recipe, change, seeds (their number), accuracy and loss (means), points (mean difference), low
        and high (its 95 % interval, paired by seed, by Student's t; empty for a single seed).
    """
    found = []
    for recipe, table in rows.groupby("recipe", sort=False):
        accuracy = table.pivot(index="seed", columns="change", values="val_accuracy")
        loss = table.pivot(index="seed", columns="change", values="val_loss")
        for change in accuracy.columns.drop("nothing"):
            points = 100 * (accuracy[change] - accuracy["nothing"]).dropna()
            low, high = mean_interval(points.tolist()) if len(points) > 1 else (math.nan, math.nan)
            means = [accuracy[change].mean(), loss[change].mean()]
            found.append([recipe, change, len(points), *means, points.mean(), low, high])
    columns = ["recipe", "change", "seeds", "accuracy", "loss", "points", "low", "high"]
    return pd.DataFrame(found, columns=columns).sort_values(["recipe", "points"], ignore_index=True)


def draw(table: pd.DataFrame, path: Path) -> None:
    """A dot a change with its interval; hollow where there is only one seed."""
    recipes = table["recipe"].unique()
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axis, recipe, colour in zip(figure.subplots(1, len(recipes)), recipes, COLOURS, strict=False):
        rows = table[table["recipe"] == recipe]
        axis.axvline(0, color=GREY, lw=1)
        for place, row in enumerate(rows.itertuples()):
            single = pd.isna(row.low)
            axis.plot(row.points, place, "o", color=colour, mfc="white" if single else colour, zorder=3)
            if not single:
                axis.plot([row.low, row.high], [place, place], color=colour)
        axis.set_yticks(range(len(rows)), rows["change"])
        axis.set(title=f"{recipe} recipe", xlabel="points of validation accuracy")
        axis.grid(axis="y", visible=False)
    save(figure, path, dpi=120)


def main() -> None:
    if len(sys.argv) == 2:
        table = effects(pd.read_csv(sys.argv[1]))
        draw(table, Path(sys.argv[1]).with_suffix(".png"))
        print(table.to_string(index=False, float_format="%.3f", na_rep=""))
        return
    out, jobs, *seeds = Path(sys.argv[1]), int(sys.argv[2]), *map(int, sys.argv[3:])
    strong = read_yaml(PROJECT / "tools/strong.yaml")["approaches"]["strong_fine_tuning"]
    params = merge(read_yaml("params.yaml"), {"sizes": read_yaml(PROJECT / "tools/strong.yaml")["sizes"]})
    data = Path("data").resolve()
    rows: list[Any] = pd.read_csv(out).to_dict("records") if out.exists() else []
    known = {(row["recipe"], row["change"], row["seed"]) for row in rows}

    def run(recipe: str, change: str, approach: dict[str, Any], seed: int) -> None:
        start = time.monotonic()
        accuracy, loss = train(approach, seed, data, params)
        row = dict(
            zip(COLUMNS, [recipe, change, seed, accuracy, round(loss, 4), round(time.monotonic() - start)], strict=True)
        )
        rows.append(row)
        pd.DataFrame(rows, columns=COLUMNS).to_csv(out, index=False, lineterminator="\n")
        print(*row.values(), flush=True)

    every = variants(strong)
    with ThreadPoolExecutor(jobs) as pool:
        work = [
            pool.submit(run, *variant, seed) for seed in seeds for variant in every if (*variant[:2], seed) not in known
        ]
    for task in work:
        task.result()


if __name__ == "__main__":
    main()
