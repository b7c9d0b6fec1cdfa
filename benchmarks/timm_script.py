"""The script with timm's model, freezing and data pipeline. Usage: as benchmarks/script.py

timm's training crops are all rescaled at random; here the training transform is the experiment's,
on timm's fast path (uint8 arrays, collated fast, normalised on the device). Like fastai, timm drops
the last, smaller batch of an epoch.
"""

import sys

import torch
from timm import create_model
from timm.data import create_loader
from timm.data.transforms import ToNumpy
from timm.utils import freeze, random_seed
from torch import nn
from torchvision import transforms

from benchmarks.script import BATCH, SEED, WORKERS, Flowers, fit

TRAIN = [
    transforms.Resize(256),
    transforms.RandomCrop(224),
    transforms.RandomHorizontalFlip(),
    ToNumpy(),
]
FROZEN = ["conv1", "bn1", "layer1", "layer2", "layer3"]


def build(weights: str, classes: int, fine_tune: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    state = torch.load(weights)
    model = create_model("resnet18", num_classes=len(state["fc.bias"]))
    model.load_state_dict(state)
    model.reset_classifier(classes)
    freeze(model, FROZEN if fine_tune else [*FROZEN, "layer4"])  # BatchNorm's statistics too
    rates = {"layer4": 1e-4, "fc": 1e-3} if fine_tune else {"fc": 1e-3}
    groups = [
        {"params": model.get_submodule(name).parameters(), "lr": rate}
        for name, rate in rates.items()
    ]
    return model, torch.optim.Adam(groups)


def main() -> None:
    root, weights, classes, epochs = sys.argv[1:]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    random_seed(SEED)
    loaders = {}
    for split in ("train", "val", "test"):
        flowers = Flowers(root, split)
        loaders[split] = create_loader(
            flowers,
            224,
            BATCH,
            is_training=split == "train",
            crop_pct=224 / 256,
            num_workers=WORKERS,
            device=device,
        )
        if split == "train":
            flowers.transform = transforms.Compose(TRAIN)
    for name in ("feature_extraction", "fine_tuning"):
        model, optimizer = build(weights, int(classes), fine_tune=name == "fine_tuning")
        fit(name, model, optimizer, loaders, int(epochs), device)


if __name__ == "__main__":
    main()
