"""The images in one form, whatever their source."""

from importlib import import_module
from pathlib import Path

from pipeline.data.raw import write_raw
from pipeline.params import Params


def main(params: Params) -> None:
    source = import_module(f"pipeline.sources.{params.images.source}")
    archive, index, classes = source.read(Path(params.images.path))
    write_raw(Path("data/raw"), archive, index, classes)
