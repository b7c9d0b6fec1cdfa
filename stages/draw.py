"""Draw images, or pretrain a backbone on drawn images of other species: the experiment without a network connection."""

import io
from pathlib import Path

import torch

from pipeline.base.device import torch_device
from pipeline.base.errors import UserError
from pipeline.base.files import atomic, scratch
from pipeline.base.parallel import cpu_workers
from pipeline.data.raw import write_raw
from pipeline.params import Params
from pipeline.sources.drawn import pretrain, write_images

DRAWN = Path("data/drawn")


def main(params: Params, what: str) -> None:
    if what == "images" and (images := params.draw.images):
        names = [f"species {number + 1}" for number in range(images.species)]
        with scratch(DRAWN / "archive") as archive:
            index = write_images(archive, images, cpu_workers(params.runtime.workers))
            write_raw(DRAWN / "images", archive, index, names)
    elif what == "backbone" and (backbone := params.draw.backbone):
        device = torch_device(params.runtime.device, backbone.threads)
        content = io.BytesIO()  # torch.save to a path would write the path's name into the file
        torch.save(pretrain(backbone, device), content)
        with atomic(DRAWN / "backbone") as (path,):
            path.write_bytes(content.getvalue())
    else:
        raise UserError(f"params.yaml: draw has no {what!r}; it can have images and backbone")
