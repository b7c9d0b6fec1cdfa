"""Draw images, or pretrain a backbone on drawn images of other species, instead of downloads."""

import io
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.files import atomic, scratch
from pipeline.base.parallel import cpu_workers
from pipeline.data.raw import RawData, write_raw
from pipeline.params import DrawnBackbone, DrawnImages, Params
from pipeline.sources.drawn import write_images

IMAGES = Path("data/drawn/images")
BACKBONE = Path("data/drawn/backbone")


def main(params: Params, what: str) -> None:
    if what == "images" and params.draw.images:
        draw_images(params.draw.images, cpu_workers(params.runtime.workers))
    elif what == "backbone" and params.draw.backbone:
        draw_backbone(params.draw.backbone, params.runtime.device)
    else:
        raise UserError(f"params.yaml: draw has no {what!r}; it can have images and backbone")


def draw_images(params: DrawnImages, workers: int) -> None:
    classes = [f"species {number}" for number in range(1, params.species + 1)]
    with scratch(IMAGES.with_name("images.tar")) as archive:
        index = write_images(archive, params, workers)
        write_raw(IMAGES, RawData(archive, index, classes))


def draw_backbone(params: DrawnBackbone, device: str) -> None:
    # Not at the top: drawing images needs no torch, which takes seconds to import.
    import torch

    from pipeline.compute.device import setup_torch
    from pipeline.sources.drawn_backbone import pretrain

    state = pretrain(params, setup_torch(device, params.threads))
    content = io.BytesIO()  # torch.save to a path would write the path's name into the file
    torch.save(state, content)
    with atomic(BACKBONE) as (path,):
        path.write_bytes(content.getvalue())
