"""The same work with fastai: vision_learner and fit. Usage: as benchmarks/script.py

Set to the script's protocol where fastai's defaults differ: a linear head, torch's Adam, constant
learning rates, and frozen BatchNorm layers whose weights are frozen too (their running statistics
move, as the script's do).
"""

import sys
from functools import partial
from typing import Any

import pandas as pd
import torch
from fastai.vision.all import (
    CrossEntropyLossFlat,
    FlipItem,
    ImageDataLoaders,
    L,
    Normalize,
    OptimWrapper,
    RandomCrop,
    Resize,
    accuracy,
    imagenet_stats,
    params,
    set_seed,
    vision_learner,
)
from torch import nn
from torchvision.models import resnet18

from benchmarks.script import BATCH, SEED, WORKERS, Flowers


def table(root: str, split: str) -> pd.DataFrame:
    flowers = Flowers(root, split)
    files = [str(file) for file in flowers._image_files]
    return pd.DataFrame({"file": files, "label": flowers._labels})


def main() -> None:
    root, weights, classes, epochs = sys.argv[1:]
    set_seed(SEED)
    splits = [table(root, "train").assign(val=False), table(root, "val").assign(val=True)]
    data = pd.concat(splits)
    loaders = ImageDataLoaders.from_df(
        data,
        path="/",
        valid_col="val",
        # Random in training, central in evaluation.
        item_tfms=[Resize(256), RandomCrop(224), FlipItem(0.5)],
        batch_tfms=Normalize.from_stats(*imagenet_stats),
        bs=BATCH,
        val_bs=BATCH,
        num_workers=WORKERS,
    )
    test = loaders.test_dl(table(root, "test"), with_labels=True, bs=BATCH, num_workers=WORKERS)

    def backbone(pretrained: bool) -> nn.Module:
        state = torch.load(weights)
        model = resnet18(num_classes=len(state["fc.bias"]))
        model.load_state_dict(state)
        return model

    def groups(model: Any) -> Any:
        """Up to layer3; layer4; the new layer."""
        return L(model[0][:7], model[0][7:], model[1:]).map(params)

    approaches = {"feature_extraction": [0, 0, 1e-3], "fine_tuning": [0, 1e-4, 1e-3]}
    for name, rates in approaches.items():
        new_layer = nn.Linear(512, int(classes))
        learner = vision_learner(
            loaders,
            backbone,
            custom_head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), new_layer),
            init=None,
            splitter=groups,
            train_bn=False,
            opt_func=partial(OptimWrapper, opt=torch.optim.Adam),
            loss_func=CrossEntropyLossFlat(),
            metrics=accuracy,
        )
        learner.freeze_to(-1 if name == "feature_extraction" else -2)
        with learner.no_bar():
            learner.fit(int(epochs), rates)
            test_loss, test_accuracy = learner.validate(dl=test)
        print(f"{name}: test loss {test_loss:.4f}, accuracy {test_accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
