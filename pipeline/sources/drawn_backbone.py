"""A backbone pretrained on drawn flowers: for an experiment without a network connection."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.models import get_model

from pipeline.base.parallel import parallel_map
from pipeline.params import DrawnBackbone
from pipeline.sources.drawn import IMAGE, draw_image, draw_species

WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1
FLIP = 0.5  # probability that a batch is mirrored


def pretrain(params: DrawnBackbone, device: torch.device) -> dict[str, Tensor]:
    """Train the network from random weights on drawn species, as others did on ImageNet.

    One-cycle AdamW (Smith & Topin 2019; Loshchilov & Hutter 2019), with random crops and flips.

    Returns:
        Its state dict, on the CPU.
    """
    images = _draw_images(params)
    species = torch.arange(params.species, device=device)
    labels = species.repeat_interleave(params.images_per_species)

    torch.manual_seed(params.seed)  # of the initial weights and of dropout
    model: nn.Module = get_model(params.network, weights=None, num_classes=params.species)
    model.to(device).to(memory_format=torch.channels_last).train()
    batches = _Batches(images, params, torch.Generator().manual_seed(params.seed))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=params.learning_rate, weight_decay=WEIGHT_DECAY
    )
    steps = params.epochs * batches.per_epoch
    schedule = OneCycleLR(optimizer, params.learning_rate, total_steps=steps)
    for epoch in range(1, params.epochs + 1):
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
            f"pretraining epoch {epoch}/{params.epochs}: loss {loss_sum / len(images):.3f}, "
            f"accuracy {correct / len(images):.1%}",
            flush=True,
        )
    return {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}


def _draw_images(params: DrawnBackbone) -> Tensor:
    """The training images, ordered by species: uint8 [n, 3, size, size]."""

    def draw(address: tuple[int, int]) -> np.ndarray:
        species, _ = address
        random = np.random.default_rng([IMAGE, params.seed, *address])
        traits = draw_species(params.seed, species)
        return draw_image(traits, random, params.size, params.size)

    addresses = product(range(params.species), range(params.images_per_species))
    images = list(parallel_map(draw, addresses, params.threads))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Batches:
    """Random batches of random crops, whose last may be smaller.

    Attributes:
        images: uint8 [n, 3, height, width].
        generator: gives the order, the crops and the flips.
    """

    images: Tensor
    params: DrawnBackbone
    generator: torch.Generator

    @property
    def starts(self) -> list[int]:
        """Where in the order of an epoch the batches after the first start."""
        size = self.params.batch_size
        # No batch of one image, which BatchNorm refuses: it is left to the batch before.
        return list(range(size, len(self.images) - 1, size))

    @property
    def per_epoch(self) -> int:
        return len(self.starts) + 1

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of the images, and their crops (uint8 [n, 3, crop, crop]), of each batch."""
        order = torch.randperm(len(self.images), generator=self.generator)
        crop = self.params.crop
        positions = self.params.size - crop + 1
        for rows in order.tensor_split(self.starts):
            corner = torch.randint(positions, (2,), generator=self.generator)
            top, left = corner.tolist()
            crops = self.images[rows, :, top : top + crop, left : left + crop]
            if torch.rand((), generator=self.generator) < FLIP:
                crops = crops.flip(3)
            yield rows, crops
