"""The script that a reader of the article would write: both approaches, then the test set.

Usage: python -m benchmarks.script ROOT WEIGHTS CLASSES EPOCHS [WORKERS]

ROOT is as torchvision.datasets.Flowers102 wants it; WORKERS is 2 unless said.
"""

import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import Flowers102
from torchvision.models import resnet18

BATCH = 32
WORKERS = 2
SEED = 0
NORMALIZE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TRAIN = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.RandomCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        NORMALIZE,
    ]
)
EVAL = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        NORMALIZE,
    ]
)


class Flowers(Flowers102):
    """Any archive in the form of Flowers-102, drawn ones too."""

    def _check_integrity(self) -> bool:
        return True


def build(weights: str, classes: int, fine_tune: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    state = torch.load(weights)
    model = resnet18(num_classes=len(state["fc.bias"]))
    model.load_state_dict(state)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, classes)
    groups = [{"params": model.fc.parameters(), "lr": 1e-3}]
    if fine_tune:
        for parameter in model.layer4.parameters():
            parameter.requires_grad = True
        groups.insert(0, {"params": model.layer4.parameters(), "lr": 1e-4})
    return model, torch.optim.Adam(groups)


def evaluate(model: nn.Module, loader: Any, device: torch.device) -> tuple[float, float]:
    model.eval()
    loss = 0.0
    correct = 0
    total = 0
    with torch.no_grad():
        for images, labels in loader:
            images = images.to(device)
            labels = labels.to(device)
            outputs = model(images)
            loss += nn.functional.cross_entropy(outputs, labels, reduction="sum").item()
            correct += (outputs.argmax(1) == labels).sum().item()
            total += len(labels)
    return loss / total, correct / total


def fit(
    name: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loaders: Mapping[str, Any],
    epochs: int,
    device: torch.device,
) -> None:
    model.to(device)
    for epoch in range(epochs):
        model.train()
        for images, labels in loaders["train"]:
            images = images.to(device)
            labels = labels.to(device)
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        val_loss, val_accuracy = evaluate(model, loaders["val"], device)
        result = f"val loss {val_loss:.4f}, accuracy {val_accuracy:.1%}"
        print(f"{name} epoch {epoch + 1}/{epochs}: {result}", flush=True)
    test_loss, test_accuracy = evaluate(model, loaders["test"], device)
    print(f"{name}: test loss {test_loss:.4f}, accuracy {test_accuracy:.4f}", flush=True)


def main() -> None:
    root, weights, classes, epochs, *workers = sys.argv[1:]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    loaders: dict[str, DataLoader] = {
        split: DataLoader(
            Flowers(root, split, transform=TRAIN if split == "train" else EVAL),
            batch_size=BATCH,
            shuffle=split == "train",
            num_workers=int(workers[0]) if workers else WORKERS,
        )
        for split in ("train", "val", "test")
    }
    for name in ("feature_extraction", "fine_tuning"):
        model, optimizer = build(weights, int(classes), fine_tune=name == "fine_tuning")
        fit(name, model, optimizer, loaders, int(epochs), device)


if __name__ == "__main__":
    main()
