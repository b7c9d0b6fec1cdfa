"""Decode and resize every image once: raw data in; per split one file of pixels and its index out."""

from contextlib import ExitStack
from pathlib import Path

from pipeline.base.arrays import ArrayWriter
from pipeline.base.files import atomic, write_csv
from pipeline.base.parallel import cpu_workers
from pipeline.base.progress import progress
from pipeline.data.pixels import pack
from pipeline.data.raw import SPLITS, read_archive, read_index
from pipeline.params import Params

RAW = Path("data/raw")


def main(params: Params) -> None:
    prepare(Path("data/pixels"), params.transforms.resize, params.transforms.crop, params.runtime.workers)


def prepare(folder: Path, resize: int, crop: int, workers: int | str) -> None:
    index = read_index(RAW)
    split_of = dict(zip(index["id"], index["split"], strict=True))
    ids = dict(zip(index["member"], index["id"], strict=True))
    with atomic(*(folder / f"{split}.{kind}" for kind in ("npy", "csv") for split in SPLITS)) as paths:
        with ExitStack() as stack:
            files = {split: stack.enter_context(ArrayWriter(path)) for split, path in zip(SPLITS, paths, strict=False)}
            images = progress(read_archive(RAW / "images.tar", ids), len(ids), "decoding")
            places = pack(images, split_of, files, resize, crop, cpu_workers(workers))
        for split, path in zip(SPLITS, paths[3:], strict=True):
            table = index.loc[index["split"] == split, ["id", "label"]]  # rows in the order of the index
            write_csv(path, table.merge(places, on="id", how="left"))
            print(f"{split}: {len(table):,} images")
