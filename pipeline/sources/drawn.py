"""Drawn flowers: images for an experiment without a network connection.

A species is a set of traits drawn from (seed, species): petals, their shape, layers, colours, disc,
veins. An image of it varies in what a photograph varies in: rotation, tilt, size, position, light,
focus, the leaves in the background.
"""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import hsv_to_rgb
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.base.parallel import parallel_map
from pipeline.base.progress import progress
from pipeline.data.raw import INDEX_COLUMNS, SPLITS
from pipeline.params import DrawnImages

# The first number of a random address, (purpose, seed, species[, image]).
SPECIES = 0
IMAGE = 1
OVERSAMPLING = 2  # drawn this much larger, then scaled down, for smooth edges
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Species:
    """The traits that all images of a species share. Colours are RGB in 0..1, float64 [3].

    Attributes:
        petals: number of petals in a ring.
        layers: number of rings.
        width: of a petal, as a share of the angle that it has.
        tip: exponent of a petal's outline: below 1 pointed, above 1 round.
        notch: depth of the cut in a petal's end, as a share of its length.
        petal, base: colours of a petal at its end and at its base.
        fade: how far the colour of the base reaches out, as a share of the petal's length.
        disc: radius of the disc in the middle, as a share of the flower's.
        disc_colour: colour of the disc.
        veins: number of veins of a petal.
        vein_strength: how dark they are, 0..1.
    """

    petals: int
    layers: int
    width: float
    tip: float
    notch: float
    petal: np.ndarray
    base: np.ndarray
    fade: float
    disc: float
    disc_colour: np.ndarray
    veins: int
    vein_strength: float


def draw_species(seed: int, species: int) -> Species:
    """The traits of one species, a pure function of (seed, species)."""
    random = np.random.default_rng([SPECIES, seed, species])
    hue = random.uniform()
    # The order matters: each value takes the next random numbers.
    return Species(
        petals=int(random.integers(3, 13)),
        layers=int(random.integers(1, 4)),
        width=random.uniform(0.45, 1.15),
        tip=random.uniform(0.5, 3.0),
        notch=random.choice([0.0, 0.0, 0.25]),
        petal=hsv_to_rgb((hue, random.uniform(0.15, 0.95), random.uniform(0.65, 1.0))),
        base=hsv_to_rgb(
            (
                (hue + random.normal(0, 0.12)) % 1,
                random.uniform(0.2, 1.0),
                random.uniform(0.35, 1.0),
            )
        ),
        fade=random.uniform(0.2, 0.9),
        disc=random.uniform(0.1, 0.38),
        disc_colour=hsv_to_rgb(
            (random.uniform(0.02, 0.3), random.uniform(0.5, 1.0), random.uniform(0.2, 0.95))
        ),
        veins=int(random.integers(0, 5)),
        vein_strength=random.uniform(0.0, 0.45),
    )


def draw_image(
    species: Species, random: np.random.Generator, height: int, width: int
) -> np.ndarray:
    """Draw one image of a species.

    Args:
        random: gives everything that varies between the images of one species.
        height, width: in pixels.

    Returns:
        uint8 [height, width, 3].
    """
    tall = height * OVERSAMPLING
    wide = width * OVERSAMPLING
    canvas = _draw_leaves(random, tall, wide)

    # Where each pixel is on the flower, whose plane is moved, turned and tilted. Distances are in
    # units of the flower's radius.
    radius = random.uniform(0.36, 0.52) * min(tall, wide)
    y, x = np.mgrid[:tall, :wide].astype(np.float64)
    x = (x - wide * random.uniform(0.42, 0.58)) / radius
    y = (y - tall * random.uniform(0.42, 0.58)) / radius
    axis = random.uniform(0, 2 * np.pi)
    tilt = random.uniform(0.55, 1.0)
    turn = random.uniform(0, 2 * np.pi)
    along = x * np.cos(axis) + y * np.sin(axis)
    across = (y * np.cos(axis) - x * np.sin(axis)) / tilt
    distance = np.hypot(along, across)
    angle = np.arctan2(across, along) + turn

    for layer in range(species.layers):
        _draw_petals(canvas, species, random, distance / (1 - 0.24 * layer), angle, layer)
    disc = np.clip((species.disc - distance) * radius + 0.5, 0, 1)
    grain = 1 + 0.25 * random.standard_normal((tall, wide))
    shade = np.clip((1.15 - 0.5 * distance / species.disc) * grain, 0, 1.3)
    _lay_over(canvas, species.disc_colour * shade[..., None], disc)

    towards_light = x * np.cos(axis + turn) + y * np.sin(axis + turn)
    light = 1 + random.uniform(0, 0.25) * towards_light
    canvas *= light[..., None] * random.uniform(0.65, 1.2) * (1 + random.normal(0, 0.04, 3))
    blur = random.uniform(0, 0.5) * OVERSAMPLING
    canvas = gaussian_filter(canvas, (blur, blur, 0)) + random.normal(0, 0.015, canvas.shape)
    pixels = (canvas.clip(0, 1) * 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def _draw_leaves(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A background of leaves out of focus: float64 [height, width, 3], around 0..1."""
    size = (height, width)
    noise = sum(
        scale * gaussian_filter(random.standard_normal(size), scale, mode="wrap")
        for scale in (4.0, 10.0)
    )
    value = np.clip(random.uniform(0.2, 0.5) + 0.25 * np.asarray(noise), 0.03, 0.9)
    green = random.uniform(0.2, 0.42)
    hue = green + 0.04 * gaussian_filter(random.standard_normal(size), 8) * 8
    saturation = np.full_like(value, random.uniform(0.25, 0.75))
    return hsv_to_rgb(np.stack([np.clip(hue, 0, 1), saturation, value], axis=-1))


def _draw_petals(
    canvas: np.ndarray,
    species: Species,
    random: np.random.Generator,
    distance: np.ndarray,
    angle: np.ndarray,
    layer: int,
) -> None:
    """Lay one ring of petals over the canvas.

    Args:
        canvas: float64 [height, width, 3], changed.
        distance: of each pixel from the centre, 1 at the ring's edge: float64 [height, width].
        angle: of each pixel around the centre, radians: float64 [height, width].
        layer: number of the ring, from 0.
    """
    turns = angle * species.petals / (2 * np.pi) + layer / 2
    petal = np.floor(turns).astype(int) % species.petals  # the petal that a pixel is on
    sideways = 2 * (turns - np.floor(turns)) - 1  # -1..1 across the angle of one petal
    lengths = 1 + random.normal(0, 0.05, species.petals)
    length = lengths[petal] - species.notch * np.exp(-((sideways / 0.18) ** 2))
    outward = distance / length  # 0..1 from the centre to the petal's end
    half_width = species.width * np.clip(1 - outward ** (2 * species.tip), 0, 1) ** 0.6
    inside = np.clip((half_width - abs(sideways)) * 12, 0, 1) * (outward < 1)

    fade = np.exp(-((outward / species.fade) ** 2))[..., None]
    colour = species.petal * (1 - fade) + species.base * fade
    is_vein = np.cos(np.pi * species.veins * sideways) > 0.8
    veins = 1 - species.vein_strength * is_vein * (species.veins > 0)
    shade = (0.78 + 0.22 * (1 - sideways**2)) * (1 - 0.12 * layer) * veins
    brightness = 1 + random.normal(0, 0.05, species.petals)
    shade *= brightness[petal]
    _lay_over(canvas, colour * shade[..., None], inside)


def _lay_over(canvas: np.ndarray, colour: np.ndarray, opacity: np.ndarray) -> None:
    """Paint over the canvas, where opacity (float64 [height, width], 0..1) is not 0."""
    canvas += opacity[..., None] * (colour - canvas)


def write_images(path: Path, params: DrawnImages, workers: int) -> pd.DataFrame:
    """Draw the images of a data set into a tar file, ordered by species; always the same bytes.

    Args:
        workers: threads that draw.

    Returns:
        Their index (pipeline/data/raw.py), train first, then val, then test.
    """
    images_per_split = [params.train_per_species, params.val_per_species, params.test_per_species]
    splits = np.repeat(SPLITS, images_per_split)  # of the images of one species
    total = params.species * len(splits)

    def encode(place: int) -> bytes:
        species, image = divmod(place, len(splits))
        return _draw_jpeg(params, species, image)

    rows = []
    jpegs = progress(parallel_map(encode, range(total), workers), total, "drawing")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:  # without times or owners
        for place, jpeg in enumerate(jpegs):
            species, image = divmod(place, len(splits))
            image_id = place + 1
            member = tarfile.TarInfo(f"jpg/image_{image_id:05d}.jpg")
            member.size = len(jpeg)
            tar.addfile(member, io.BytesIO(jpeg))
            digest = hashlib.sha256(jpeg).hexdigest()
            rows.append((member.name, image_id, splits[image], species, digest))
    index = pd.DataFrame(rows, columns=list(INDEX_COLUMNS))
    return index.sort_values(
        "split",
        key=lambda column: column.map(SPLITS.index),
        kind="stable",
        ignore_index=True,
    )


def _draw_jpeg(params: DrawnImages, species: int, image: int) -> bytes:
    """One image, landscape or portrait, whose short side is ``params.size``, as JPEG."""
    random = np.random.default_rng([IMAGE, params.seed, species, image])
    long_side = round(params.size * random.uniform(1, 1.4))
    height, width = params.size, long_side
    if random.random() >= 0.5:
        height, width = width, height
    pixels = draw_image(draw_species(params.seed, species), random, height, width)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=JPEG_QUALITY)
    return jpeg.getvalue()
