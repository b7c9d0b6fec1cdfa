"""Everything that reads bytes from outside: whatever they are, it gives an answer or a UserError.

A target has valid seeds, made here, from which mutations start, and a function that repairs what
would stop a mutation too early: checksums, lengths, compression. So mutated bytes reach the parser
that they are meant for.
"""

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from unittest.mock import patch

import numpy as np
import safetensors.torch
import scipy.io
import torch
import yaml
from PIL import Image
from torch import nn

from pipeline.base.errors import UserError
from pipeline.data.archive import Archive, read_tar
from pipeline.data.images import FORMATS, Preprocessing, central_square, decode, examine
from pipeline.data.raw import read_index, write_raw
from pipeline.models import files
from pipeline.models.networks import load_weights, read_backbone
from pipeline.params import Columns, Images, Shares, load_params, read_yaml
from pipeline.predict import Predictor
from pipeline.sources import flowers102, folder
from pipeline.sources.layout import read_folders
from pipeline.sources.table import read_names as read_class_names
from pipeline.sources.table import read_places, read_table
from pipeline.training.checkpoint import Checkpoint
from stages._removed import discard_removed
from tests.deep import FLOAT, SIGNED, png, pnm, tiff
from tools.sandbox import PROJECT

BREAK = b"%%%"  # between the two files of a target that reads two
PARAMS = load_params(PROJECT / "params.yaml")
SHARES = Shares(val=0.3, test=0.3, seed=0)


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        read: does with ``data`` what the pipeline does; it may write to the empty ``directory``.
        seeds: gives valid inputs.
        repair: makes a mutated seed an input.
        lines: whether an error may have several lines.
    """

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], Sequence[bytes]]
    repair: Callable[[bytes], bytes] = bytes
    lines: bool = False


def attempt(target: Target, data: bytes, directory: Path) -> bool:
    """Whether there is an answer or else a UserError that can be printed; others are raised."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            target.read(target.repair(data), directory)
        return True
    except UserError as error:
        text = str(error)
    lines = text.splitlines()
    assert len(lines) == 1 or target.lines, lines
    assert all(line.isprintable() for line in lines), lines
    assert len(text) < 10_000 + 10 * len(data), "nobody reads it"
    return False


def write(path: Path, data: bytes) -> Path:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


# Archives.

COMPRESSIONS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress]
ZIP_COMPRESSIONS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
MEMBERS = ["train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png"]


def repair_tar(data: bytes) -> bytes:
    """The first byte says how to compress, and whether to correct the checksums of headers."""
    kind = data[0] if data else 0
    content = bytearray(data[1:])
    if kind & 1:
        for start in range(0, len(content) - 511, 512):
            header = memoryview(content)[start : start + 512]
            if header[257:262] == b"ustar":
                header[148:156] = b" " * 8
                header[148:156] = b"%06o\0 " % sum(header)
    return COMPRESSIONS[(kind >> 1) % 4](bytes(content))


def pixel(name: str) -> bytes:
    """An image of one pixel, in the colour of a name."""
    content = io.BytesIO()
    Image.new("RGB", (1, 1), tuple(hashlib.sha256(name.encode()).digest()[:3])).save(content, "GIF")
    return content.getvalue()


def tars() -> list[bytes]:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in [*MEMBERS, "train/a/" + "é" * 60]:
            member = tarfile.TarInfo(name)
            member.size = len(pixel(name))
            tar.addfile(member, io.BytesIO(pixel(name)))
        link = tarfile.TarInfo("link.png")
        link.type = tarfile.SYMTYPE
        link.linkname = "a"
        tar.addfile(link)
    return [bytes([kind]) + content.getvalue()[:9216] for kind in range(8)]


def zips() -> list[bytes]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for place, name in enumerate([*MEMBERS, "a/", "read me.txt"]):
            image = b"" if name.endswith("/") else pixel(name)
            compression = ZIP_COMPRESSIONS[place % len(ZIP_COMPRESSIONS)]
            archive.writestr(zipfile.ZipInfo(name), image, compression)
    return [content.getvalue()]


def repair_archive(data: bytes) -> bytes:
    return data if data[:2] == b"PK" else repair_tar(data)


def _is_member(name: str, head: bytes) -> bool:
    return name in MEMBERS


def read_in_order(data: bytes, directory: Path) -> None:
    list(read_tar(write(directory / "x.tgz", data), _is_member))


def read_at_random(data: bytes, directory: Path) -> None:
    """What is read at random is what is read in order."""
    path = write(directory / "x.tgz", data)
    with Archive(path) as archive:
        contents = {name: archive.read(name) for name in reversed(MEMBERS)}
    in_order = {entry.name: entry.content for entry in read_tar(path, _is_member)}
    assert contents == {name: in_order[name] for name in MEMBERS}


def read_folder(data: bytes, directory: Path) -> None:
    """As the stage images does; and what was written is what is read back."""
    path = write(directory / "archive", data)
    images = Images(source="folder", path=str(path), split=SHARES)
    raw = folder.read(images, directory / "scratch", print)
    write_raw(directory, raw)
    assert read_index(directory).equals(raw.index)
    with Archive(raw.archive) as archive:
        for member in raw.index["member"]:
            archive.read(member)


def read_names(data: bytes, _: Path) -> None:
    """Paths of images, a line each: every image has a place or a reason."""
    names = {line for line in data.decode("utf-8", "replace").splitlines() if line.strip("/.")}
    names = {PurePosixPath(name).as_posix().lstrip("/") for name in names}
    for innermost, grouped in ((False, False), (True, True)):
        layout = read_folders(sorted(names), Path("x"), innermost, grouped)
        assert layout.places.keys() | layout.left_out.keys() == names
        assert not layout.places.keys() & layout.left_out.keys()


def read_labels(data: bytes, _: Path) -> None:
    """The first byte says the kind of table."""
    suffix = (".csv", ".tsv", ".jsonl", ".json")[data[0] % 4 if data else 0]
    table = read_table(f"x{suffix}", data[1:])
    if table is not None:
        read_places([table], MEMBERS, Path("x"), Columns())
    read_class_names({f"x{suffix}": data[1:]}, ["1", "2"])


def label_tables() -> list[bytes]:
    rows = [f"{name},{name[-7]},{name.split('/')[0]}" for name in MEMBERS]
    text = "\n".join(["file,label,split", *rows, ""])
    lines = [json.dumps({"file_name": name, "label": name[-7]}) for name in MEMBERS]
    return [
        b"\0" + text.encode(),
        b"\1" + text.replace(",", "\t").encode(),
        b"\2" + "\n".join(lines).encode(),
        b'\3{"1": "rose", "2": "lily"}',
    ]


def read_tables(data: bytes, directory: Path) -> None:
    classes, _, index = data.partition(BREAK)
    write(directory / "classes.csv", classes)
    write(directory / "index.csv", index)
    table = read_index(directory)
    assert list(table["id"].astype("int64")) == list(table["id"])


def tables() -> list[bytes]:
    rows = [f"{name},{place},{name},0,{place:064x}" for place, name in enumerate("abc")]
    text = "\n".join(["member,id,split,label,sha256", *rows, ""])
    for letter, split in {"a": "train", "b": "val", "c": "test"}.items():
        text = text.replace(f",{letter},", f",{split},")
    return [b"label,name\n0,rose\n1,x\n" + BREAK + text.encode()]


def read_matlab(data: bytes, directory: Path) -> None:
    """scipy's reader must get no bytes but the official ones."""
    write(directory / flowers102.LABELS.name, data)
    images = Images(source="flowers102", path=str(directory), split=SHARES)
    refuse = AssertionError("scipy reads unknown bytes")
    with patch.object(scipy.io, "loadmat", side_effect=refuse):
        flowers102.read(images, directory / "scratch", print)


# Images.

PREPROCESSING = Preprocessing(resize=32, crop=24, mean=[0.5] * 3, std=[0.5] * 3)
TIFF_COMPRESSIONS = ("tiff_lzw", "jpeg", "tiff_adobe_deflate")


def repair_png(data: bytes) -> bytes:
    """Correct the checksums of its chunks."""
    content = bytearray(data)
    start = 8
    while data[:4] == b"\x89PNG" and start + 12 <= len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4])
        content[end : end + 4] = zlib.crc32(content[start + 4 : end]).to_bytes(4)
        start = end + 4
    return bytes(content[: len(data)])


def images() -> list[bytes]:
    rgb = Image.fromarray(np.arange(16 * 12 * 3, dtype=np.uint8).reshape(12, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    grey = Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300)
    clear = rgb.convert("RGBA")
    clear.putalpha(100)
    frames = {"transparency": 0, "save_all": True, "append_images": [rgb]}
    seeds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        *((rgb, kind, {}) for kind in FORMATS),
        *((rgb, kind, {"exif": exif}) for kind in ("JPEG", "PNG", "WEBP")),
        *((grey, kind, {}) for kind in ("PNG", "TIFF")),
        *((clear, kind, {}) for kind in ("PNG", "TIFF", "WEBP")),
        *((rgb.convert(mode), "TIFF", {}) for mode in ("LAB", "CMYK", "YCbCr", "F", "1", "P")),
        *(
            (rgb, "TIFF", {"compression": name})
            for name in ("tiff_lzw", "jpeg", "tiff_adobe_deflate")
        ),
        (rgb.convert("CMYK"), "JPEG", {"progressive": True}),
        (rgb.quantize(8), "GIF", frames),
        (rgb.quantize(8), "PNG", {"transparency": b"\0\1\2"}),
        (rgb.convert("L"), "PNG", {"transparency": 3}),
    ]
    encoded = []
    for image, kind, options in seeds:
        content = io.BytesIO()
        image.save(content, kind, **options)
        encoded.append(content.getvalue())
    return encoded


def deep_images() -> list[bytes]:
    """More than 8 bits a channel."""
    colour = np.arange(16 * 12 * 4, dtype=np.uint16).reshape(12, 16, 4)
    grey = colour[..., 0]
    whole = [png(grey, (4,)), png(colour[..., :2]), png(colour[..., :3], (0, 1, 2)), png(colour)]
    texts = [pnm(values, 65535, is_text=True) for values in (grey, colour[..., :3])]
    tiffs = [tiff(colour), tiff(grey.astype(np.uint32)), tiff(grey.astype(np.int16) - 9, SIGNED)]
    floats = [tiff(grey.astype(np.float32), FLOAT, order=order) for order in "<>"]
    return [*whole, *texts, *tiffs, *floats, tiff(colour, is_planar=True, is_compressed=True)]


def read_image(data: bytes, _: Path) -> None:
    """Examining never fails, and says what decoding does."""
    seen = examine(data)
    assert isinstance(seen.is_image, bool)
    assert not (seen.fault and seen.scaled)
    if seen.fault:
        assert seen.fault.isprintable()
        assert len(seen.fault) < 300
    else:
        assert decode(data, "x").mode == "RGB"


# Weights and models.

STATE = {"weight": torch.ones(3, 2), "bias": torch.ones(3, dtype=torch.float16)}
MODEL: dict[str, Any] = {
    "approach": "fine_tuning",
    "network": "tiny",
    "classes": ["a", "b", "c"],
    "resize": 36,
    "crop": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "fit": "crop",
    "precision": "fp32",
    "flip_averaging": False,
    "initial": "backbone",
    "trained": ["fc"],
    "parameters": {"total": 2, "trainable": 1},
    "temperature": 1.0,
    "sure_from": 0.0,
    "known_from": -1.0,
}


def pickles() -> list[bytes]:
    prefixed = {"module." + name: value.flip(0) for name, value in STATE.items()}
    seeds = []
    for state in (STATE, prefixed):
        for is_zip in (False, True):
            content = io.BytesIO()
            torch.save(state, content, _use_new_zipfile_serialization=is_zip)
            seeds.append(content.getvalue())
    return seeds


def repair_safetensors(data: bytes) -> bytes:
    """Correct the length of its header, which is JSON and ends with the last brace and spaces."""
    start, brace, values = data[8:].rpartition(b"}")
    spaces = len(values) - len(values.lstrip(b" "))
    return (len(start + brace) + spaces).to_bytes(8, "little") + data[8:]


def read_weights(data: bytes, directory: Path) -> None:
    state = read_backbone(write(directory / "weights", data))
    with contextlib.suppress(RuntimeError):  # as the caller does: they do not fit
        load_weights(nn.Linear(2, 3), state)


class Tiny(nn.Module):
    """Instead of a network of torchvision, which takes a second to make."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(2, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.flatten(self.pool(self.conv(images))))
        return logits


def build_tiny(network: str, classes: int) -> nn.Module:
    if network != "tiny":
        raise UserError("no such network")
    return Tiny(classes)


def model_file() -> bytes:
    state = Tiny(3).state_dict()
    zeros = {name: torch.zeros_like(value) for name, value in state.items()}
    zeros[files.KNOWN] = torch.ones(1, 2, dtype=torch.float16)
    return safetensors.torch.save(zeros, {"model": json.dumps(MODEL)})


def repair_model(data: bytes) -> bytes:
    """The input is the file; or only the model's header, which is a JSON text in JSON."""
    if data[8:9] == b"{":
        return repair_safetensors(data)
    old = json.dumps(json.dumps(MODEL)).encode()
    new = json.dumps(data.decode(errors="replace")).encode()
    return repair_safetensors(model_file().replace(old, new))


def read_model(data: bytes, directory: Path) -> None:
    """As predict does."""
    photo = directory / "photo.png"
    if not photo.exists():
        photo.write_bytes(images()[FORMATS.index("PNG")])
    with patch.object(files, "build", build_tiny):
        model = files.load_model(write(directory / "model.safetensors", data))
    for answer in Predictor(model, torch.device("cpu")).answers([photo]):
        assert not answer.fault
        json.dumps([" ".join(row["class"].split()) for row in answer.classes])


# The pipeline's own files.


def read_checkpoint(data: bytes, directory: Path) -> None:
    Checkpoint(write(directory / "state", data), "f" * 64).load()


def checkpoints() -> list[bytes]:
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Checkpoint(Path(directory) / "state", "f" * 64)
        checkpoint.save({"epoch": 1, "model": STATE})
        return [checkpoint.path.read_bytes()]


def locks() -> list[bytes]:
    """dvc.lock with stages whose approach is not in params.yaml."""
    stages = {
        f"{stage}@gone": {"cmd": "x", "outs": [{"path": f"{folder}/gone"}]}
        for stage, folder in {"train": "models", "evaluate": "predictions"}.items()
    }
    return [yaml.safe_dump({"schema": "2.0", "stages": stages}).encode()]


def read_lock(data: bytes, directory: Path) -> None:
    with contextlib.chdir(directory):
        write(Path("dvc.lock"), data)
        discard_removed(PARAMS)


def params() -> list[bytes]:
    return [
        yaml.safe_dump(read_yaml(PROJECT / "params.yaml")).encode(),
        b"train: &a [*a, 1e3, 010, 2001-01-01]\nexport: !!set {<<: {x: 0x1f}}",
    ]


def read_params(data: bytes, directory: Path) -> None:
    load_params(write(directory / "params.yaml", data))


def models() -> list[bytes]:
    averaging = MODEL | {"flip_averaging": True}
    return [json.dumps(MODEL).encode(), json.dumps(averaging).encode(), model_file()]


TARGETS = {
    "tar": Target(read_in_order, tars, repair_tar),
    "archive": Target(read_at_random, tars, repair_tar),
    "folder": Target(read_folder, lambda: [*zips(), *tars()], repair_archive),
    "layout": Target(read_names, lambda: ["\n".join(MEMBERS).encode(), b"a/train/1\na/test/2"]),
    "labels": Target(read_labels, label_tables),
    "index": Target(read_tables, tables),
    "matlab": Target(read_matlab, lambda: [b"MATLAB 5.0 MAT-file"]),
    "image": Target(lambda data, _: central_square(data, "x", PREPROCESSING), images, repair_png),
    "examine": Target(read_image, lambda: [*images(), *deep_images()], repair_png),
    "safetensors": Target(
        read_weights, lambda: [safetensors.torch.save(STATE)], repair_safetensors
    ),
    "pth": Target(read_weights, pickles),
    "params": Target(read_params, params, lines=True),
    "model": Target(read_model, models, repair_model),
    "resume": Target(read_checkpoint, checkpoints),
    "lock": Target(read_lock, locks),
}
