"""The same as prepare, at another size of the images."""

from pathlib import Path

from pipeline.base.errors import choose
from pipeline.params import Params
from stages.prepare import prepare


def main(params: Params, name: str) -> None:
    size = choose(params.sizes, name, "sizes")
    prepare(Path("data") / name, size.resize, size.crop, params.runtime.workers)
