"""Drawn flowers, and a backbone pretrained on other drawn flowers: the experiment without a network connection.

A species is a set of numbers drawn from (seed, species): petals, their shape, layers, colours, disc, veins. An
image of it varies in what a photograph varies in: rotation, tilt, size, place, light, focus, the leaves behind.
"""

import io
import tarfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import get_model

from pipeline.base.parallel import parallel_map
from pipeline.base.progress import progress
from pipeline.data.raw import SPLITS
from pipeline.sources.params import DrawnBackbone, DrawnImages

SPECIES, IMAGE = 0, 1  # what a random stream is for; its address is (purpose, seed, species[, number])
Traits = dict[str, Any]
Array = np.ndarray
Random = np.random.Generator
OVERSAMPLING = 2  # drawn this much larger, then scaled down, for smooth edges


def species_traits(seed: int, species: int) -> Traits:
    """The heritable traits of one species, a pure function of (seed, species)."""
    random = np.random.default_rng([SPECIES, seed, species])
    hue = random.uniform()
    return {
        "petals": int(random.integers(3, 13)),
        "layers": int(random.integers(1, 4)),
        "width": random.uniform(0.45, 1.15),  # of a petal, against the room it has
        "tip": random.uniform(0.5, 3.0),  # exponent: below 1 pointed, above 1 round
        "notch": random.choice([0.0, 0.0, 0.25]),  # depth of the cut in the petal's end
        "petal": hsv_to_rgb((hue, random.uniform(0.15, 0.95), random.uniform(0.65, 1.0))),
        "base": hsv_to_rgb(((hue + random.normal(0, 0.12)) % 1, random.uniform(0.2, 1.0), random.uniform(0.35, 1.0))),
        "fade": random.uniform(0.2, 0.9),  # how far the base's colour reaches out
        "disc": random.uniform(0.1, 0.38),  # radius, against the flower's
        "disc_colour": hsv_to_rgb((random.uniform(0.02, 0.3), random.uniform(0.5, 1.0), random.uniform(0.2, 0.95))),
        "veins": int(random.integers(0, 5)),
        "vein_strength": random.uniform(0.0, 0.45),
    }


def draw(traits: Traits, random: Random, height: int, width: int) -> Array:
    """Draw one image of a species.

    Args:
        traits: from :func:`species_traits`.
        random: gives everything that varies between images of one species.
        height, width: in pixels.

    Returns:
        uint8 [height, width, 3].
    """
    tall, wide = height * OVERSAMPLING, width * OVERSAMPLING
    canvas = _foliage(random, tall, wide)

    # Where each pixel lies on the flower: its plane is turned, tilted away from the viewer and shifted.
    radius = random.uniform(0.36, 0.52) * min(tall, wide)
    y, x = np.mgrid[:tall, :wide].astype(np.float64)
    x = (x - wide * random.uniform(0.42, 0.58)) / radius
    y = (y - tall * random.uniform(0.42, 0.58)) / radius
    axis, tilt, turn = random.uniform(0, 2 * np.pi), random.uniform(0.55, 1.0), random.uniform(0, 2 * np.pi)
    along = x * np.cos(axis) + y * np.sin(axis)
    across = (y * np.cos(axis) - x * np.sin(axis)) / tilt
    distance, angle = np.hypot(along, across), np.arctan2(across, along) + turn

    for layer in range(traits["layers"]):
        _draw_petals(canvas, traits, random, distance / (1 - 0.24 * layer), angle, layer)
    disc = np.clip((traits["disc"] - distance) * radius + 0.5, 0, 1)
    grain = 1 + 0.25 * random.standard_normal((tall, wide))
    shade = np.clip((1.15 - 0.5 * distance / traits["disc"]) * grain, 0, 1.3)
    canvas += disc[..., None] * (traits["disc_colour"] * shade[..., None] - canvas)

    light = 1 + random.uniform(0, 0.25) * (x * np.cos(axis + turn) + y * np.sin(axis + turn))
    canvas *= light[..., None] * random.uniform(0.65, 1.2) * (1 + random.normal(0, 0.04, 3))
    blur = random.uniform(0, 0.5) * OVERSAMPLING
    canvas = gaussian_filter(canvas, (blur, blur, 0)) + random.normal(0, 0.015, canvas.shape)
    pixels = (canvas.clip(0, 1) * 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def _draw_petals(canvas: Array, traits: Traits, random: Random, distance: Array, angle: Array, layer: int) -> None:
    """Lay one ring of petals over the canvas. distance: from the centre, 1 at the ring's edge; angle: radians."""
    count: int = traits["petals"]
    turns = angle * count / (2 * np.pi) + layer / 2
    number = np.floor(turns).astype(int) % count
    sideways = 2 * (turns - np.floor(turns)) - 1  # -1..1 across the room of one petal
    length = 1 + random.normal(0, 0.05, count)[number] - traits["notch"] * np.exp(-((sideways / 0.18) ** 2))
    outward = distance / length
    half_width = traits["width"] * np.clip(1 - outward ** (2 * traits["tip"]), 0, 1) ** 0.6
    inside = np.clip((half_width - abs(sideways)) * 12, 0, 1) * (outward < 1)

    fade = np.exp(-((outward / traits["fade"]) ** 2))[..., None]
    colour = traits["petal"] * (1 - fade) + traits["base"] * fade
    veins = 1 - traits["vein_strength"] * (np.cos(np.pi * traits["veins"] * sideways) > 0.8) * (traits["veins"] > 0)
    shade = (0.78 + 0.22 * (1 - sideways**2)) * (1 - 0.12 * layer) * veins
    shade *= 1 + random.normal(0, 0.05, count)[number]
    canvas += inside[..., None] * (colour * shade[..., None] - canvas)


def _foliage(random: Random, height: int, width: int) -> Array:
    """An out-of-focus background of leaves: float64 [height, width, 3] around 0..1."""
    size = (height, width)
    noise = sum(scale * gaussian_filter(random.standard_normal(size), scale, mode="wrap") for scale in (4.0, 10.0))
    value = np.clip(random.uniform(0.2, 0.5) + 0.25 * np.asarray(noise), 0.03, 0.9)
    hue = np.clip(random.uniform(0.2, 0.42) + 0.04 * gaussian_filter(random.standard_normal(size), 8) * 8, 0, 1)
    return hsv_to_rgb(np.stack([hue, np.full_like(value, random.uniform(0.25, 0.75)), value], axis=-1))


def write_images(path: Path, params: DrawnImages, workers: int) -> pd.DataFrame:
    """Draw the images of a data set into a tar file, ordered by species; always the same bytes.

    Args:
        workers: threads that draw.

    Returns:
        Their index (pipeline/data/raw.py), train first, then val, then test.
    """
    splits = np.repeat(SPLITS, [params.train_per_species, params.val_per_species, params.test_per_species])
    total, rows = params.species * len(splits), []

    def encoded(place: int) -> bytes:
        species, number = divmod(place, len(splits))
        random, jpeg = np.random.default_rng([IMAGE, params.seed, species, number]), io.BytesIO()
        long_side = round(params.size * random.uniform(1, 1.4))
        height, width = (params.size, long_side) if random.random() < 0.5 else (long_side, params.size)
        image = Image.fromarray(draw(species_traits(params.seed, species), random, height, width))
        image.save(jpeg, "JPEG", quality=90)
        return jpeg.getvalue()

    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:  # no time stamp or owner goes into it
        for place, jpeg in enumerate(progress(parallel_map(encoded, range(total), workers), total, "drawing")):
            member = tarfile.TarInfo(f"jpg/image_{place + 1:05d}.jpg")
            member.size = len(jpeg)
            tar.addfile(member, io.BytesIO(jpeg))
            rows.append((member.name, place + 1, splits[place % len(splits)], place // len(splits)))
    index = pd.DataFrame(rows, columns=["member", "id", "split", "label"])
    return index.sort_values("split", key=lambda names: names.map(SPLITS.index), kind="stable", ignore_index=True)


def pretrain(params: DrawnBackbone, device: torch.device) -> dict[str, torch.Tensor]:
    """Train the network from random weights on drawn species, as others did on ImageNet.

    One-cycle AdamW (Smith & Topin 2019; Loshchilov & Hutter 2019) with random crops and flips.

    Returns:
        Its state dict, on the CPU.
    """

    def drawn(place: tuple[int, int]) -> Array:
        random = np.random.default_rng([IMAGE, params.seed, *place])
        return draw(species_traits(params.seed, place[0]), random, params.size, params.size)

    places = product(range(params.species), range(params.images_per_species))
    images = torch.from_numpy(np.stack([*parallel_map(drawn, places, params.threads)])).permute(0, 3, 1, 2)
    truth = torch.arange(params.species, device=device).repeat_interleave(params.images_per_species)

    torch.manual_seed(params.seed)  # of the initial weights, and of dropout
    model: nn.Module = get_model(params.network, weights=None, num_classes=params.species)
    model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, weight_decay=0.05)
    starts = range(params.batch_size, len(images) - 1, params.batch_size)  # no batch of one: BatchNorm refuses it
    total = params.epochs * (len(starts) + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, params.learning_rate, total_steps=total)
    generator = torch.Generator().manual_seed(params.seed)
    for epoch in range(1, params.epochs + 1):
        loss_sum = correct = 0.0
        for rows in torch.randperm(len(images), generator=generator).tensor_split(list(starts)):
            top, left = torch.randint(params.size - params.crop + 1, (2,), generator=generator).tolist()
            batch = images[rows, :, top : top + params.crop, left : left + params.crop].to(device).float() / 127.5 - 1
            if torch.rand((), generator=generator) < 0.5:
                batch = batch.flip(3)
            outputs = model(batch.contiguous(memory_format=torch.channels_last))
            loss = cross_entropy(outputs, truth[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item() * len(rows)
            correct += int((outputs.argmax(1) == truth[rows]).sum())
        figures = f"loss {loss_sum / len(images):.3f}, accuracy {correct / len(images):.1%}"
        print(f"pretraining epoch {epoch}/{params.epochs}: {figures}", flush=True)
    return {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
