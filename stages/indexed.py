"""The source indexed: an archive with its tables is raw data, after the checks."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.raw import write_raw
from pipeline.sources.indexed import read_indexed

if TYPE_CHECKING:
    from pipeline.params import Params


def main(params: "Params") -> None:
    archive, index, classes = read_indexed(Path(params.images.path))
    write_raw(Path("data/raw"), archive, index, classes)
