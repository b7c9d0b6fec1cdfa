"""Stages download and backbone, with source: synthetic. Usage: python -m stages.synthetic flowers|backbone"""

import io
import sys

import torch
from tqdm import tqdm

from pipeline.files import atomic
from pipeline.params import load_params
from pipeline.runtime import run_stage, torch_device
from pipeline.synthetic import pretrain, write_flowers


def main() -> None:
    params = load_params()
    if sys.argv[1] == "backbone":
        state = pretrain(
            params.synthetic.backbone,
            torch_device(params.runtime.device, params.synthetic.backbone.threads),
            lambda line: print(line, flush=True),
        )
        content = io.BytesIO()  # torch.save to a path would write the path's name into the file
        torch.save(state, content)
        with atomic("data/raw/backbone.pth") as (path,):
            path.write_bytes(content.getvalue())
        return
    with atomic("data/raw/102flowers.tgz", "data/raw/imagelabels.mat", "data/raw/setid.mat") as (
        archive,
        labels,
        splits,
    ):
        write_flowers(archive, labels, splits, params.synthetic.flowers, lambda items: tqdm(items, disable=None))


if __name__ == "__main__":
    run_stage(main)
