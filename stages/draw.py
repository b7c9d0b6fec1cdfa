"""Draw images, or pretrain a backbone on drawn images of other species: the experiment without a network connection."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.base.device import torch_device
from pipeline.base.errors import UserError
from pipeline.base.files import atomic
from pipeline.base.progress import progress
from pipeline.data.raw import write_raw
from pipeline.sources.drawn import index_of, pretrain, write_images

if TYPE_CHECKING:
    from pipeline.params import Params

DRAWN = Path("data/drawn")


def main(params: "Params", what: str) -> None:
    if what == "images" and params.draw.images:
        index = index_of(params.draw.images)
        with atomic(DRAWN / "archive") as (archive,):
            write_images(archive, params.draw.images, lambda items: progress(items, len(items), "drawing"))
            names = [f"species {number + 1}" for number in range(params.draw.images.species)]
            write_raw(DRAWN / "images", archive, index, names)
        (DRAWN / "archive").unlink()
    elif what == "backbone" and params.draw.backbone:
        device = torch_device(params.runtime.device, params.draw.backbone.threads)
        state = pretrain(params.draw.backbone, device, lambda line: print(line, flush=True))
        content = io.BytesIO()  # torch.save to a path would write the path's name into the file
        torch.save(state, content)
        with atomic(DRAWN / "backbone") as (path,):
            path.write_bytes(content.getvalue())
    else:
        raise UserError(f"params.yaml: draw has no {what!r}; it can have images and backbone")
