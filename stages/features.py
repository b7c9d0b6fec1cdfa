"""Stage features: the output of a frozen module for every view, once. Usage: python -m stages.features MODULE INPUT"""

import sys
from pathlib import Path

from pipeline.files import atomic
from pipeline.images import SPLITS, Split
from pipeline.inputs import open_inputs, write_features
from pipeline.model import for_inference, in_precision, pretrained_network, read_backbone, section
from pipeline.params import load_params
from pipeline.runtime import run_stage, torch_device

DATA, BACKBONE = Path("data"), Path("data/raw/backbone.pth")


def main() -> None:
    module, start = sys.argv[1:]
    params = load_params()
    device = torch_device(params.runtime.device, params.threads)
    backbone = pretrained_network(params.network, read_backbone(BACKBONE))
    network = for_inference(section(backbone, after=start, to=module)).to(device)
    network = in_precision(network, params.precision, device)
    with atomic(*(DATA / module / f"{split}.npy" for split in SPLITS)) as paths:
        for split, path in zip(SPLITS, paths, strict=True):
            images = Split(DATA / "pixels", split)
            inputs = open_inputs(DATA, start, images, params.transforms, device, params.train.seed)
            epochs = params.train.epochs if split == "train" else 0
            write_features(path, network, inputs, len(images), epochs, device)
            print(f"{module} of {len(images):,} {split} pictures: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    run_stage(main)
