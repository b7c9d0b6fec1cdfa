"""Make demo/backbone.safetensors again: a ResNet18 pretrained on drawn species.

Usage: python -m tools.pretrain (seven minutes on 2 CPU cores)

The file lies in the repository, because training from random weights amplifies rounding: each CPU
would get a backbone of its own, and the demo other accuracies. The weights of
convolutions are float8, which makes the file 11 MB in place of 45.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline.base.errors import for_people
from pipeline.base.files import atomic
from pipeline.compute.device import setup_torch
from pipeline.params import DrawnBackbone
from pipeline.sources.drawn_backbone import pretrain
from tools.sandbox import PROJECT

FILE = PROJECT / "demo" / "backbone.safetensors"
# Other species than the demo's: another seed.
PARAMS = DrawnBackbone(
    network="resnet18",
    seed=2,
    species=100,
    images_per_species=30,
    size=64,
    crop=56,
    epochs=15,
    batch_size=32,
    learning_rate=2.0e-3,
    threads=2,
)


def main() -> None:
    state = pretrain(PARAMS, setup_torch("auto", PARAMS.threads))
    for name, tensor in state.items():
        if tensor.dim() == 4:  # of a convolution
            state[name] = tensor.to(torch.float8_e4m3fn)
    with atomic(FILE) as (path,):
        save_file(state, Path(path))


if __name__ == "__main__":
    with for_people():
        main()
