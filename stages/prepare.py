"""Decode and resize every image once: raw data in; per split one file of pixels and its index out."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.arrays import ArrayWriter
from pipeline.base.files import atomic, write_csv
from pipeline.base.parallel import cpu_workers
from pipeline.base.progress import progress
from pipeline.data.pixels import pack
from pipeline.data.raw import SPLITS, read_archive, read_index

if TYPE_CHECKING:
    from pipeline.params import Params

RAW, PIXELS = Path("data/raw"), Path("data/pixels")


def main(params: "Params") -> None:
    index = read_index(RAW)
    split_of = dict(zip(index["id"], index["split"], strict=True))
    ids = dict(zip(index["member"], index["id"], strict=True))
    with atomic(*(PIXELS / f"{split}.{kind}" for kind in ("npy", "csv") for split in SPLITS)) as paths:
        with ExitStack() as stack:
            writers = [stack.enter_context(ArrayWriter(path)) for path in paths[:3]]
            files = dict(zip(SPLITS, writers, strict=True))
            places = pack(
                progress(read_archive(RAW / "images.tar", ids), len(ids), "decoding"),
                # Training crops at random, later; evaluation always sees the centre.
                crop_of=lambda number: None if split_of[number] == "train" else params.transforms.crop,
                file_of=lambda number: files[split_of[number]],
                short_side=params.transforms.resize,
                workers=cpu_workers(params.runtime.workers),
            )
        for split, path in zip(SPLITS, paths[3:], strict=True):
            table = index.loc[index["split"] == split, ["id", "label"]]  # rows in the order of the index
            write_csv(path, table.merge(places, on="id", how="left"))
            print(f"{split}: {len(table):,} images")
