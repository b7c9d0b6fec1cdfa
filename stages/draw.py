"""Draw images of flowers, in place of downloads."""

from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.files import scratch
from pipeline.base.parallel import cpu_workers
from pipeline.data.raw import RawData, write_raw
from pipeline.params import Params
from pipeline.sources.drawn import write_images

IMAGES = Path("data/drawn/images")


def main(params: Params, what: str) -> None:
    drawn = params.draw.images
    if what != "images" or drawn is None:
        raise UserError(f"params.yaml: draw has no {what!r}; it can have images")
    classes = [f"species {number}" for number in range(1, drawn.species + 1)]
    with scratch(IMAGES.with_name("images.tar")) as archive:
        index = write_images(archive, drawn, cpu_workers(params.runtime.workers))
        write_raw(IMAGES, RawData(archive, index, classes))
