"""Make demo/backbone.safetensors again: a ResNet18 pretrained on drawn species.

Usage: python -m tools.pretrain (six minutes on 2 CPU cores)

The file lies in the repository, because training from random weights amplifies rounding: each CPU
would get a backbone of its own, and the demo other accuracies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.models import get_model

from pipeline.base.errors import for_people
from pipeline.base.files import atomic
from pipeline.base.parallel import parallel_map
from pipeline.compute.device import setup_torch
from pipeline.sources.drawn import IMAGE, draw_image, draw_species
from tools.sandbox import PROJECT

WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1
FLIP = 0.5  # probability that a batch is mirrored


@dataclass(frozen=True)
class Settings:
    """How a backbone is pretrained.

    Attributes:
        network: a classifier of torchvision.
        seed: of the species, the initial weights, the order of images, crops and flips.
        size: side of the drawn images, pixels.
        crop: side of the random crops of them, pixels.
        learning_rate: the highest.
        threads: of the CPU; another number rounds sums differently.
    """

    network: str
    seed: int
    species: int
    images_per_species: int
    size: int
    crop: int
    epochs: int
    batch_size: int
    learning_rate: float
    threads: int


DEMO_BACKBONE = PROJECT / "demo" / "backbone.safetensors"
# Other species than the demo's: another seed.
SETTINGS = Settings(
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


def write_backbone(file: Path, settings: Settings) -> None:
    """Pretrain a network and write its state dict as a safetensors file.

    The weights of convolutions are float8, which makes ResNet18's file 11 MB in place of 45.
    """
    state = pretrain(settings, setup_torch("auto", settings.threads))
    for name, tensor in state.items():
        if tensor.dim() == 4:  # of a convolution
            state[name] = tensor.to(torch.float8_e4m3fn)
    with atomic(file) as (path,):
        save_file(state, Path(path))


def pretrain(settings: Settings, device: torch.device) -> dict[str, Tensor]:
    """Train the network from random weights on drawn species, as others did on ImageNet.

    One-cycle AdamW (Smith & Topin 2019; Loshchilov & Hutter 2019), with random crops and flips.

    Returns:
        Its state dict, on the CPU.
    """
    images = _draw_images(settings)
    species = torch.arange(settings.species, device=device)
    labels = species.repeat_interleave(settings.images_per_species)

    torch.manual_seed(settings.seed)  # of the initial weights and of dropout
    model: nn.Module = get_model(settings.network, weights=None, num_classes=settings.species)
    model.to(device).to(memory_format=torch.channels_last).train()
    batches = _Batches(images, settings, torch.Generator().manual_seed(settings.seed))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=WEIGHT_DECAY
    )
    steps = settings.epochs * batches.per_epoch
    schedule = OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    for epoch in range(1, settings.epochs + 1):
        loss_sum = 0.0
        correct = 0
        for rows, crops in batches.epoch():
            inputs = crops.to(device).float() / 127.5 - 1
            logits = model(inputs.contiguous(memory_format=torch.channels_last))
            loss = cross_entropy(logits, labels[rows], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item() * len(rows)
            correct += int((logits.argmax(1) == labels[rows]).sum())
        print(
            f"epoch {epoch}/{settings.epochs}: loss {loss_sum / len(images):.3f}, "
            f"accuracy {correct / len(images):.1%}",
            flush=True,
        )
    return {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}


def _draw_images(settings: Settings) -> Tensor:
    """The training images, ordered by species: uint8 [n, 3, size, size]."""

    def draw(address: tuple[int, int]) -> np.ndarray:
        species, _ = address
        random = np.random.default_rng([IMAGE, settings.seed, *address])
        traits = draw_species(settings.seed, species)
        return draw_image(traits, random, settings.size, settings.size)

    addresses = product(range(settings.species), range(settings.images_per_species))
    images = list(parallel_map(draw, addresses, settings.threads))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Batches:
    """Random batches of random crops, whose last may be smaller.

    Attributes:
        images: uint8 [n, 3, height, width].
        generator: gives the order, the crops and the flips.
    """

    images: Tensor
    settings: Settings
    generator: torch.Generator

    @property
    def starts(self) -> list[int]:
        """Where in the order of an epoch the batches after the first start."""
        size = self.settings.batch_size
        # No batch of one image, which BatchNorm refuses: it is left to the batch before.
        return list(range(size, len(self.images) - 1, size))

    @property
    def per_epoch(self) -> int:
        return len(self.starts) + 1

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of the images, and their crops (uint8 [n, 3, crop, crop]), of each batch."""
        order = torch.randperm(len(self.images), generator=self.generator)
        crop = self.settings.crop
        positions = self.settings.size - crop + 1
        for rows in order.tensor_split(self.starts):
            corner = torch.randint(positions, (2,), generator=self.generator)
            top, left = corner.tolist()
            crops = self.images[rows, :, top : top + crop, left : left + crop]
            if torch.rand((), generator=self.generator) < FLIP:
                crops = crops.flip(3)
            yield rows, crops


if __name__ == "__main__":
    with for_people():
        write_backbone(DEMO_BACKBONE, SETTINGS)
