"""Stage prepare: three raw files in; per split one file of pixels and its index out. Usage: python -m stages.prepare"""

from contextlib import ExitStack
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipeline.arrays import ArrayWriter
from pipeline.files import atomic
from pipeline.flowers102 import check_splits, class_names, read_archive, read_splits
from pipeline.images import SPLITS, pack
from pipeline.params import load_params
from pipeline.runtime import cpu_workers, run_stage

RAW, PIXELS = Path("data/raw"), Path("data/pixels")


def main() -> None:
    params = load_params()
    dataset, transforms = params.dataset, params.transforms
    tables = read_splits(RAW / "imagelabels.mat", RAW / "setid.mat")
    check_splits(tables, dataset.classes, {"train": dataset.train, "val": dataset.val, "test": dataset.test})
    names = class_names(dataset.class_names, dataset.classes)
    split_of = {int(number): split for split, table in tables.items() for number in table["id"]}

    outs = [f"{split}.{kind}" for split in SPLITS for kind in ("npy", "csv")] + ["classes.csv"]
    with atomic(*(PIXELS / out for out in outs)) as temporaries:
        paths = dict(zip(outs, temporaries, strict=True))
        with ExitStack() as stack:
            files = {split: stack.enter_context(ArrayWriter(paths[f"{split}.npy"])) for split in SPLITS}
            places = pack(
                tqdm(read_archive(RAW / "102flowers.tgz", set(split_of)), total=len(split_of), disable=None),
                # Training crops at random, later; evaluation always sees the centre.
                crop_of=lambda number: None if split_of[number] == "train" else transforms.crop,
                file_of=lambda number: files[split_of[number]],
                short_side=transforms.resize,
                workers=cpu_workers(params.runtime.workers),
            )
        for split, table in tables.items():
            index = table.merge(places, on="id", how="left")  # rows as in setid.mat
            index.to_csv(paths[f"{split}.csv"], index=False, lineterminator="\n")
        classes = pd.DataFrame({"label": range(dataset.classes), "name": names})
        classes.to_csv(paths["classes.csv"], index=False, lineterminator="\n")
    print("prepared " + ", ".join(f"{len(table):,} {split}" for split, table in tables.items()) + " pictures")


if __name__ == "__main__":
    run_stage(main)
