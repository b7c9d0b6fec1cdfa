"""The images in one form, whatever their source."""

from importlib import import_module
from pathlib import Path

from pipeline.base.errors import print_note
from pipeline.base.files import scratch
from pipeline.data.raw import write_raw
from pipeline.params import Params

RAW = Path("data/raw")


def main(params: Params) -> None:
    source = import_module(f"pipeline.sources.{params.images.source}")
    with scratch(RAW.with_name("images.tar")) as archive:  # not in RAW, which is an out
        raw = source.read(params.images, archive, print_note)
        write_raw(RAW, raw.archive, raw.index, raw.classes)
