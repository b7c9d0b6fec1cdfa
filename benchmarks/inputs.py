"""What the contenders of bench.py work on: the experiment's data, or drawn images as large."""

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import scipy.io
import torch
from PIL import Image
from torch.optim.swa_utils import update_bn

from benchmarks.script import BATCH, EVAL
from pipeline.data.archive import Archive
from pipeline.data.raw import ARCHIVE, RawData, read_classes, read_index, write_raw
from pipeline.models.networks import pretrained_network, read_backbone
from pipeline.params import Params, load_params
from pipeline.sources.flowers102 import VARIABLES
from tools.commands import DVC, environment
from tools.merge import merge
from tools.pretrain import DEMO_BACKBONE
from tools.sandbox import update

RAW = Path("data/raw")
TILES = 4  # times 125 pixels: the short side of the photographs of Flowers-102
EVERY = 4  # image gives its statistics to the backbone of the demo


def set_up(directory: Path, reduced: dict[str, Any], changes: dict[str, Any]) -> Path:
    """A sandbox with raw data and a backbone.

    Returns:
        A folder with the same images as torchvision expects Flowers-102.
    """
    if reduced:
        reduced = draw_reduced(directory.with_name("drawn"), reduced)
    make_raw(directory, merge(reduced, changes))
    root = directory.with_name("torchvision")
    write_flowers(root / "flowers-102", directory / RAW)
    return root


def make_raw(directory: Path, changes: dict[str, Any]) -> Params:
    """Run what makes raw data and the backbone in a sandbox; returns its params."""
    update(directory, changes)
    params = load_params(directory / "params.yaml")
    stages = ["images"]
    if "backbone" in params.download:
        stages.append("download@backbone")
    command = [*DVC, "repro", "--quiet", *stages]
    subprocess.run(command, cwd=directory, env=environment(), check=True)
    return params


def write_flowers(folder: Path, raw: Path) -> None:
    """Raw data in the layout of Flowers-102.

    An image gets the number of its row in the index, from 1.
    """
    index = read_index(raw)
    (folder / "jpg").mkdir(parents=True)
    with Archive(raw / ARCHIVE, index["member"].tolist()) as archive:
        for number, member in enumerate(index["member"], start=1):
            (folder / f"jpg/image_{number:05d}.jpg").write_bytes(archive.read(member))
    splits = {
        name: 1 + np.flatnonzero(index["split"] == split) for split, name in VARIABLES.items()
    }
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": index["label"].to_numpy() + 1})
    scipy.io.savemat(folder / "setid.mat", splits)


def draw_reduced(directory: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Draw the images of ``changes`` and tile them; adapt the backbone of the demo to them.

    The statistics of the backbone's BatchNorm layers are taken again from every EVERY-th image:
    those of ImageNet suit photographs of flowers, those of the small squares on which this backbone
    was pretrained would not suit the tiles, and a script whose frozen BatchNorm layers move would
    learn what a pipeline whose do not cannot.

    Returns:
        ``changes`` that use the result.
    """
    params = make_raw(directory, changes)
    small = directory / RAW
    large = directory / "large"
    tiled = directory / "tiled.tar"
    views = []
    digests = {}
    with tarfile.open(small / ARCHIVE) as source, tarfile.open(tiled, "w:gz") as target:
        for number, member in enumerate(source):
            image = np.asarray(Image.open(cast(IO[bytes], source.extractfile(member))))
            tiles = Image.fromarray(np.tile(image, (TILES, TILES, 1)))
            if number % EVERY == 0:
                views.append(EVAL(tiles))
            content = io.BytesIO()
            tiles.save(content, "JPEG", quality=90)
            digests[member.name] = hashlib.sha256(content.getvalue()).hexdigest()
            member.size = content.tell()
            content.seek(0)
            target.addfile(member, content)
    index = read_index(small)
    index["sha256"] = index["member"].map(digests)
    write_raw(large, RawData(tiled, index, read_classes(small)))

    network = params.backbone.network
    backbone = pretrained_network(network, read_backbone(DEMO_BACKBONE))
    update_bn(torch.stack(views).split(BATCH), backbone)
    adapted = directory / "adapted.pth"
    torch.save(backbone.state_dict(), adapted)
    return changes | {
        "draw": {"images": None},
        "images": {"source": "indexed", "path": str(large)},
        "backbone": {"network": network, "path": str(adapted)},
    }
