"""The images in one form, whatever their source."""

from importlib import import_module
from pathlib import Path

from pipeline.base.files import scratch
from pipeline.data.raw import write_raw
from pipeline.params import Params

RAW = Path("data/raw")


def main(params: Params) -> None:
    settings = params.images.model_dump()
    source = import_module(f"pipeline.sources.{settings['source']}")
    with scratch(RAW / "archive") as path:
        archive, index, classes = source.read(settings, path, lambda line: print(f"note: {line}", flush=True))
        write_raw(RAW, archive, index, classes)
