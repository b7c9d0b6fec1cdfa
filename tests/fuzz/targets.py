"""What reads bytes from outside: each target gives an answer or a UserError, whatever the bytes are.

A target has valid seeds, made here, from which mutations start, and a function that mends what would stop a mutation at
the door: checksums, lengths, compression. So mutated bytes reach the parser that they are meant for.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import safetensors.torch
import scipy.io
import torch
import yaml
from PIL import Image
from torch import nn

from pipeline.base.checkpoint import Checkpoint
from pipeline.base.errors import UserError
from pipeline.data.images import central, decode, resize
from pipeline.data.pixels import Split
from pipeline.data.raw import read_archive, read_index, write_raw
from pipeline.models import storage
from pipeline.models.features import feature_inputs
from pipeline.models.networks import Pooled, load_weights, read_backbone
from pipeline.params import load_params, read_yaml
from pipeline.predict import predictions
from pipeline.sources import flowers102, folder
from stages.__main__ import discard_removed
from tests.conftest import HEADER
from tools.sandbox import PROJECT

BREAK = b"%%%"  # between the two files of a target that reads two
DEFAULTS = load_params(PROJECT / "params.yaml")


@dataclass(frozen=True)
class Target:
    """``read`` does with ``data``, which it may write into the empty ``folder``, what the pipeline does."""

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], Sequence[bytes]]
    mend: Callable[[bytes], bytes] = bytes
    lines: bool = False  # may an error have several lines?


def attempt(target: Target, data: bytes, directory: Path) -> bool:
    """Is there an answer (or a UserError: one line that can be printed)? Anything else is raised."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            target.read(target.mend(data), directory)
        return True
    except UserError as error:
        text = str(error)
    lines = text.splitlines()
    assert len(lines) == 1 or target.lines, lines
    assert all(line.isprintable() for line in lines), lines
    assert len(text) < 10_000 + 10 * len(data), "nobody reads it"
    return False


def written(path: Path, data: bytes) -> Path:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


# Archives. The first byte of a tar's input chooses its compression, and whether the headers' checksums are mended.
COMPRESSIONS: tuple[Callable[[bytes], bytes], ...] = (bytes, gzip.compress, bz2.compress, lzma.compress)
IDS = {"train/a/1.png": 1, "train/b/2.png": 2, "val/a/3.png": 3, "test/b/4.png": 4}


def mend_tar(data: bytes) -> bytes:
    kind, content = (data[:1] or b"\0")[0], bytearray(data[1:])
    for start in range(0, len(content) - 511, 512) if kind & 1 else ():
        header = memoryview(content)[start : start + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
    return COMPRESSIONS[(kind >> 1) % 4](bytes(content))


def tars() -> list[bytes]:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in [*IDS, "train/a/" + "é" * 60, "link.png"]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (tarfile.SYMTYPE, "a") if name == "link.png" else (tarfile.REGTYPE, "")
            member.size = 0 if member.issym() else len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return [bytes([kind]) + content.getvalue()[:9216] for kind in range(8)]


def zips() -> list[bytes]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for place, name in enumerate([*IDS, "a/", "read me.txt"]):
            kind = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[place % 4]
            archive.writestr(zipfile.ZipInfo(name), name * (not name.endswith("/")), kind)
    return [content.getvalue()]


def mend_archive(data: bytes) -> bytes:
    return data if data[:2] == b"PK" else mend_tar(data)


def read_own_images(data: bytes, directory: Path) -> None:
    """As the stage images does; and what was written is what is read back."""
    path, splits = written(directory / "archive", data), {"val": 0.3, "test": 0.3, "seed": 0}
    archive, index, classes = folder.read({"path": path, "split": splits}, directory / "scratch", print)
    write_raw(directory, archive, index, classes)
    assert read_index(directory).equals(index)
    assert len(list(read_archive(archive, dict(zip(index["member"], index["id"], strict=True))))) == len(index)


def read_tables(data: bytes, directory: Path) -> None:
    classes, _, index = data.partition(BREAK)
    written(directory / "classes.csv", classes)
    written(directory / "index.csv", index)
    table = read_index(directory)
    assert list(table["id"].astype("int64")) == list(table["id"])


def read_matlab(data: bytes, directory: Path) -> None:
    """scipy's reader must get no bytes but the official ones."""
    written(directory / flowers102.LABELS[0], data)
    with patch.object(scipy.io, "loadmat", side_effect=AssertionError("scipy reads unknown bytes")):
        flowers102.read({"path": directory})


# Images.
def mend_png(data: bytes) -> bytes:
    """The checksums of its chunks."""
    content, start = bytearray(data), 8
    while data[:4] == b"\x89PNG" and start + 12 <= len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4])
        content[end : end + 4] = zlib.crc32(content[start + 4 : end]).to_bytes(4)
        start = end + 4
    return bytes(content[: len(data)])


def images() -> list[bytes]:
    rgb = Image.fromarray(np.arange(16 * 12 * 3, dtype=np.uint8).reshape(12, 16, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16) * 300)
    clear = rgb.convert("RGBA")
    clear.putalpha(100)
    seeds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        *((rgb, kind, {}) for kind in ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")),
        *((rgb, kind, {"exif": exif}) for kind in ("JPEG", "PNG", "WEBP")),
        *((grey, kind, {}) for kind in ("PNG", "TIFF")),
        *((clear, kind, {}) for kind in ("PNG", "TIFF", "WEBP")),
        *((rgb.convert(mode), "TIFF", {}) for mode in ("LAB", "CMYK", "YCbCr", "F", "1", "P")),
        *((rgb, "TIFF", {"compression": name}) for name in ("tiff_lzw", "jpeg", "tiff_adobe_deflate")),
        (rgb.convert("CMYK"), "JPEG", {"progressive": True}),
        (rgb.quantize(8), "GIF", {"transparency": 0, "save_all": True, "append_images": [rgb]}),
        (rgb.quantize(8), "PNG", {"transparency": b"\0\1\2"}),
        (rgb.convert("L"), "PNG", {"transparency": 3}),
    ]
    encoded = []
    for image, kind, options in seeds:
        content = io.BytesIO()
        image.save(content, kind, **options)
        encoded.append(content.getvalue())
    return encoded


# Weights.
STATE = {"weight": torch.ones(3, 2), "bias": torch.ones(3, dtype=torch.float16)}


def pickles() -> list[bytes]:
    seeds = []
    for state in (STATE, {"module." + name: value.flip(0) for name, value in STATE.items()}):
        for legacy in (True, False):
            content = io.BytesIO()
            torch.save(state, content, _use_new_zipfile_serialization=not legacy)
            seeds.append(content.getvalue())
    return seeds


def mend_safetensors(data: bytes) -> bytes:
    """The length of its header, which is JSON and ends with the last brace, and spaces."""
    start, brace, values = data[8:].rpartition(b"}")
    return (len(start + brace) + len(values) - len(values.lstrip(b" "))).to_bytes(8, "little") + data[8:]


def read_weights(data: bytes, directory: Path) -> None:
    state = read_backbone(written(directory / "weights", data))
    with contextlib.suppress(RuntimeError):  # as the caller does: they do not fit
        load_weights(nn.Linear(2, 3), state)


def tiny(network: str, classes: int, pooled: Sequence[str] | None) -> nn.Module:
    if network != "tiny":
        raise UserError("no such network")
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, classes))
    return Pooled(model, pooled, classes) if pooled else model


MODEL = HEADER | {"network": "tiny"}


def model_file() -> bytes:
    model = tiny("tiny", 3, None)
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    return safetensors.torch.save(state, {"model": json.dumps(MODEL)})


def mend_model(data: bytes) -> bytes:
    """The input is the file; or only the header inside it, which stands there as a JSON text in JSON."""
    if data[8:9] == b"{":
        return mend_safetensors(data)
    outer, state = json.dumps(json.dumps(MODEL)).encode(), model_file()
    return mend_safetensors(state.replace(outer, json.dumps(data.decode(errors="replace")).encode()))


def read_model(data: bytes, directory: Path) -> None:
    """As predict does: ``tiny`` stands for the networks of torchvision, which take a second each."""
    photo = directory / "photo.png"
    if not photo.exists():
        photo.write_bytes(images()[4])
    with patch.object(storage, "build", tiny):
        for _, answer in predictions(written(directory / "model.safetensors", data), [photo]):
            assert not isinstance(answer, str)
            json.dumps([" ".join(row["class"].split()) for row in answer])


# The pipeline's own files.
def arrays() -> list[bytes]:
    seeds = []
    for values in (np.zeros((2, 3, 1, 1), np.float32), np.zeros((2, 4), np.uint16)):
        content = io.BytesIO()
        np.save(content, values)
        seeds.append(content.getvalue())
    return seeds


def splits() -> list[bytes]:
    content = io.BytesIO()
    np.save(content, np.zeros(3 * (4 * 5 + 6 * 4), np.uint8))
    return [b"id,label,offset,height,width\n7,0,0,4,5\n9,1,60,6,4\n" + BREAK + content.getvalue()]


def read_split(data: bytes, directory: Path) -> None:
    table, _, pixels = data.partition(BREAK)
    written(directory / "x.csv", table)
    written(directory / "x.npy", pixels)
    split = Split(directory, "x")
    for row in range(len(split)):
        assert split.image(row).shape[2] == 3


def states() -> list[bytes]:
    with tempfile.TemporaryDirectory() as directory:
        saved = Checkpoint(Path(directory) / "state", "f" * 64)
        saved.save({"epoch": 1, "model": STATE})
        return [saved.path.read_bytes()]


def lock() -> list[bytes]:
    """Of stages whose approach is gone."""
    names = {"train": "models", "evaluate": "predictions"}
    stages = {f"{kind}@gone": {"cmd": "x", "outs": [{"path": f"{place}/gone"}]} for kind, place in names.items()}
    return [yaml.safe_dump({"schema": "2.0", "stages": stages}).encode()]


def read_lock(data: bytes, directory: Path) -> None:
    with contextlib.chdir(directory):
        written(Path("dvc.lock"), data)
        discard_removed(DEFAULTS)


TARGETS = {
    "tar": Target(lambda data, at: list(read_archive(written(at / "x.tgz", data), IDS)), tars, mend_tar),
    "folder": Target(read_own_images, lambda: [*zips(), *tars()], mend_archive),
    "index": Target(
        read_tables,
        lambda: [b"label,name\n0,rose\n1,x\n%%%member,id,split,label\na,1,train,0\nb,2,val,1\nc,3,test,0\n"],
    ),
    "matlab": Target(read_matlab, lambda: [b"MATLAB 5.0 MAT-file"]),
    "image": Target(lambda data, _: central(resize(decode(data, "x"), 32), 24), images, mend_png),
    "safetensors": Target(read_weights, lambda: [safetensors.torch.save(STATE)], mend_safetensors),
    "pth": Target(read_weights, pickles),
    "params": Target(
        lambda data, at: load_params(written(at / "params.yaml", data)),
        lambda: [
            yaml.safe_dump(read_yaml(PROJECT / "params.yaml")).encode(),
            b"train: &a [*a, 1e3, 010, 2001-01-01]\nalike: !!set {<<: {x: 0x1f}}",
        ],
        lines=True,
    ),
    "model": Target(
        read_model,
        lambda: [json.dumps(MODEL).encode(), json.dumps(MODEL | {"pooled": ["0"]}).encode(), model_file()],
        mend_model,
    ),
    "pixels": Target(read_split, splits),
    "features": Target(
        lambda data, at: feature_inputs(written(at / "x.npy", data), 2, torch.device("cpu"))(np.arange(2), 1), arrays
    ),
    "resume": Target(lambda data, at: Checkpoint(written(at / "state", data), "f" * 64).load(), states),
    "lock": Target(read_lock, lock),
}
