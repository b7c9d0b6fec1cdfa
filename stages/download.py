"""Stages download and backbone, with source: download. Usage: python -m stages.download flowers|backbone"""

import sys

from pipeline.download import fetch
from pipeline.files import atomic
from pipeline.params import load_params
from pipeline.runtime import run_stage


def main() -> None:
    download = load_params().download
    if sys.argv[1] == "backbone":
        with atomic("data/raw/backbone.pth") as (path,):
            fetch(download.backbone.url, download.backbone.checksum, path, "download.backbone")
        return
    flowers = download.flowers
    with atomic("data/raw/102flowers.tgz", "data/raw/imagelabels.mat", "data/raw/setid.mat") as paths:
        names = ("archive", "labels", "splits")
        for name, file, path in zip(names, (flowers.archive, flowers.labels, flowers.splits), paths, strict=True):
            fetch(file.url, file.checksum, path, f"download.flowers.{name}")


if __name__ == "__main__":
    run_stage(main)
