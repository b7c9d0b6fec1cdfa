"""What a frozen module of the backbone makes of every view, computed once for all approaches and epochs."""

from pathlib import Path

from pipeline.base.arrays import ArrayWriter
from pipeline.base.device import torch_device
from pipeline.base.errors import choose
from pipeline.base.files import atomic
from pipeline.base.progress import progress
from pipeline.data.pixels import Split
from pipeline.data.raw import SPLITS
from pipeline.models.features import features, open_inputs
from pipeline.models.networks import check_runs, pretrained_network, read_backbone
from pipeline.models.sections import for_inference, in_precision, section
from pipeline.params import Params

DATA = Path("data")


def main(params: Params, module: str) -> None:
    start = choose(params.features, module, "features")
    device, transforms = torch_device(params.runtime.device, params.threads), params.transforms.model_dump()
    backbone = pretrained_network(params.backbone.network, read_backbone(Path(params.backbone.path)))
    check_runs(backbone.to(device).requires_grad_(False), params.transforms.crop, f"features.{module}")
    network = for_inference(section(backbone, after=start, to=module)).to(device)
    network = in_precision(network, params.precision, device)
    with atomic(*(DATA / module / f"{split}.npy" for split in SPLITS)) as paths:
        for split, path in zip(SPLITS, paths, strict=True):
            images = Split(DATA / "pixels", split)
            inputs = open_inputs(DATA, start, images, transforms, device, params.train.seed)
            epochs = params.train.epochs if split == "train" else 0
            blocks = features(network, inputs, len(images), epochs, device)
            with ArrayWriter(path) as file:
                for block in progress(blocks, len(images) * (epochs or 1), f"{module} of {split}", "views", len):
                    file.append(block)
            print(f"{module} of {len(images):,} {split} images: {path.stat().st_size:,} bytes", flush=True)
