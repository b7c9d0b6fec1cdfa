"""How well decoding uses the cores. Usage: python -m benchmarks.decoding

After `dvc repro`, in the folder where that ran: decodes and resizes images of the test split on one
thread, then on all, and compares the two rates.
"""

import time
from functools import partial

import numpy as np

from pipeline.base.errors import for_people
from pipeline.base.parallel import cpu_workers, parallel_map
from pipeline.data.archive import Archive
from pipeline.data.images import Preprocessing, central_square
from pipeline.data.raw import ARCHIVE, read_index
from pipeline.params import load_params
from stages._inputs import RAW, preprocessing_of

IMAGES = 256  # that each thread decodes


def decode(archive: Archive, preprocessing: Preprocessing, member: str) -> np.ndarray:
    """One image as the cache would hold it."""
    return central_square(archive.read(member), member, preprocessing)


def main() -> None:
    params = load_params("params.yaml")
    index = read_index(RAW)
    members = index.loc[index["split"] == "test", "member"].tolist()
    archive = Archive(RAW / ARCHIVE, members)
    work = partial(decode, archive, preprocessing_of(params, params.train))
    for member in members[:8]:  # loads the decoder
        work(member)
    rates = {}
    for workers in (1, cpu_workers(params.runtime.workers)):
        chosen = members[: IMAGES * workers]
        start = time.perf_counter()
        for _ in parallel_map(work, chosen, workers):
            pass
        rates[workers] = len(chosen) / (time.perf_counter() - start)
    for workers, rate in rates.items():
        ideal = rate / (rates[1] * workers)
        print(f"{workers} threads: {rate:,.0f} images/s, {ideal:.0%} of as many single threads")


if __name__ == "__main__":
    with for_people():
        main()
