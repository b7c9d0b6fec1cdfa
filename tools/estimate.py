"""What a run will need: images, time, disk and memory. Usage: python -m tools.estimate FOLDER

FOLDER is the project or a copy of it. Images are counted by their names, and a few are read. Time
follows from a measurement: those few are decoded, and each approach computes a batch. Where the
disk has not enough, this is refused in one line.
"""

import math
import os
import re
import shutil
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline.base.cache import GIGABYTE
from pipeline.base.environment import discard_variables
from pipeline.base.errors import UserError, for_people
from pipeline.params import Params, Recipe, Shares, Train, load_params, read_yaml
from pipeline.sources.files import SUFFIXES, is_hidden, walk
from pipeline.sources.layout import split_of

if TYPE_CHECKING:
    from tools.speed import Rates, Speed

SAMPLES = 12  # images to decode
LARGEST = 10**8  # bytes of one of them
LOOK = 5.0  # seconds to count in a compressed tar file; what lies behind is extrapolated
# What no image is to blame for, in seconds.
STAGE = 2.0  # of DVC and the system, around a stage
UNMEASURED = 15.0  # in the stages that explain and report
COPYING = 1e8  # bytes of raw data a second: read, written, digested and copied into DVC's cache
# Bytes.
ENTRY = 1536  # of an image's entry in the archive of raw data, besides the image
REPORT = 4 * 10**7  # of figures, tables, the page and DVC's records
ROW = 4000  # of memory for an image in tables
OTHER_MEMORY = 4 * 10**8  # that a stage has and the measurement has not


@dataclass(frozen=True)
class Survey:
    """The images, as far as names and sizes say.

    Attributes:
        size: bytes of all of them, as they are encoded.
        said: share of the images in each split that folders say (train, val, test, unlabelled).
        samples: a few of them, encoded.
    """

    count: int
    size: int
    said: Mapping[str, float] = field(default_factory=dict)
    samples: list[bytes] = field(default_factory=list)

    def counts(self, split: Shares) -> "Counts":
        """About how many are in each split: by their folders, else by the shares that are drawn."""
        unlabelled = self.said.get("unlabelled", 0.0)
        undivided = 1 - unlabelled - self.said.get("val", 0.0) - self.said.get("test", 0.0)
        val = self.said.get("val", split.val * undivided)
        test = self.said.get("test", split.test * undivided)
        train = 1 - unlabelled - val - test
        return Counts(self.count * train, self.count * val, self.count * (test + unlabelled))


@dataclass(frozen=True)
class Counts:
    """Numbers of images in the splits; those without a class count as test."""

    train: float
    val: float
    test: float

    @property
    def others(self) -> float:
        """Numbers of images that are not for training."""
        return self.val + self.test


@dataclass(frozen=True)
class Needs:
    """What a run from nothing to the page needs.

    Attributes:
        disk: bytes without which it fails.
        cache: bytes of .cache/, without which it is slower.
        memory: bytes of its largest process.
    """

    seconds: float
    disk: int
    cache: int
    memory: int


# How many images?


def survey(path: Path) -> Survey:
    """Count the images of a folder, a zip or a tar file by their names, and read a few.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if path.is_dir():
            return _survey_folder(path)
        if zipfile.is_zipfile(path):
            return _survey_zip(path)
        return _survey_tar(path)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be read as a folder, zip or tar file: {error}") from None


def _survey_folder(path: Path) -> Survey:
    found = [(place, file.name) for place, file in walk(path) if not file.fault]
    sizes = {place: place.stat().st_size for place, name in found if _is_image(name)}
    names = [name for place, name in found if place in sizes]
    sample = [place for place in _spread(list(sizes)) if sizes[place] < LARGEST]
    samples = [place.read_bytes() for place in sample]
    return Survey(len(sizes), sum(sizes.values()), _said_splits(names), samples)


def _survey_zip(path: Path) -> Survey:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.replace("\\", "/"): entry for entry in archive.infolist()}
        entries = {name: entry for name, entry in entries.items() if _is_image(name)}
        size = sum(entry.file_size for entry in entries.values())
        samples = []
        for entry in _spread(list(entries.values())):
            try:
                samples += [archive.read(entry)] if entry.file_size < LARGEST else []
            except Exception:  # zipfile raises all kinds of errors; the run says what is wrong
                continue
    return Survey(len(entries), size, _said_splits(list(entries)), samples)


def _survey_tar(path: Path) -> Survey:
    end = time.monotonic() + LOOK
    names = []
    samples: list[bytes] = []
    size = 0
    share = 1.0
    with path.open("rb") as file, tarfile.open(fileobj=file) as archive:
        for member in archive:
            if not member.isreg() or not _is_image(member.name):
                continue
            names.append(member.name)
            size += member.size
            is_sample = len(samples) < SAMPLES and member.size < LARGEST
            content = archive.extractfile(member) if is_sample else None
            if content is not None:
                samples.append(content.read())
            if time.monotonic() > end:
                share = file.tell() / path.stat().st_size
                break
    return Survey(round(len(names) / share), round(size / share), _said_splits(names), samples)


def _is_image(name: str) -> bool:
    """Whether a file is an image, by its name; one without a suffix may be one."""
    suffix = PurePosixPath(name).suffix.lower()
    return not name.endswith("/") and not is_hidden(name) and (suffix in SUFFIXES or not suffix)


def _spread(items: Sequence[Any]) -> list[Any]:
    """``SAMPLES`` of ``items``, evenly spread."""
    step = max(1, len(items) // SAMPLES)
    return list(items[step // 2 :: step][:SAMPLES])


def _said_splits(names: Sequence[str]) -> dict[str, float]:
    """The share of the images in each split; empty where folders do not tell splits apart."""
    counts: Counter[str] = Counter()
    for name in names:
        said = [split_of(folder) for folder in PurePosixPath(name).parent.parts]
        counts.update([split for split in said if split][:1])
    if "train" not in counts or counts["train"] == len(names):
        return {}
    return {split: count / len(names) for split, count in counts.items()}


# What will they need?


def forecast(params: Params, images: Survey, speed: "Speed", start: float) -> Needs:
    """What a run needs for these images.

    Args:
        speed: as measured here.
        start: seconds until a stage with torch begins its work.
    """
    counts = images.counts(params.images.split)
    recipes = {name: approach.recipe(params.train) for name, approach in params.approaches.items()}
    limit = params.runtime.cache * GIGABYTE if speed.keeps_outputs else 0.0
    work = Work(counts, limit)

    stages = 4 + 2 * len(recipes)
    work.seconds += stages * (STAGE + start) + UNMEASURED + images.size / COPYING
    work.seconds += images.count * min(speed.decode.values())  # every image is looked at first
    work.decode(params.train, speed)
    work.explore(speed.backbone)
    for name, recipe in recipes.items():
        work.decode(recipe, speed)
        work.train(recipe, speed.rates[name])
        work.evaluate(recipe, speed.rates[name])

    raw = images.size + ENTRY * images.count
    has_backbone = "backbone" in params.download
    models = speed.weights * (len(recipes) + has_backbone)
    # Twice: in the workspace and in DVC's cache. And the checkpoint of a training: Adam's moments.
    disk = 2 * (raw + models) + 3 * speed.weights + REPORT
    cached = min(work.stored + work.pixels, params.runtime.cache * GIGABYTE)
    memory = speed.memory + ROW * images.count + OTHER_MEMORY
    return Needs(work.seconds, int(disk), int(cached), int(memory))


@dataclass
class Work:
    """Adds up what a run computes, as far as it does not find it in the cache.

    Attributes:
        limit: bytes of outputs of frozen layers that can be kept.
        stored: bytes of outputs.
        pixels: bytes of decoded images.
    """

    counts: Counts
    limit: float
    seconds: float = 0.0
    stored: float = 0.0
    pixels: float = 0.0
    _sides: set[int] = field(default_factory=set)
    _kept: dict[str, float] = field(default_factory=dict)  # epochs of a part
    _evaluated: set[str] = field(default_factory=set)

    def decode(self, recipe: Train, speed: "Speed") -> None:
        """Decode all images for a recipe, once for each size."""
        if recipe.resize in self._sides:
            return
        self._sides.add(recipe.resize)
        self.seconds += (self.counts.train + self.counts.others) * speed.decode[recipe.resize]
        self.pixels += 4.5 * recipe.resize**2 * self.counts.train  # whole, half as wide again
        self.pixels += 3 * recipe.crop**2 * self.counts.others

    def explore(self, rates: "Rates") -> None:
        """The backbone on training and test images."""
        seconds = sum(part.seconds for part in rates.parts) + rates.rest
        self.seconds += (self.counts.train + self.counts.test) * seconds
        self._evaluated.update(part.name for part in rates.parts)

    def train(self, recipe: Recipe, rates: "Rates") -> None:
        """All epochs of an approach, each with its validation."""
        others = self.counts.others * rates.larger
        validation = self.counts.val * rates.larger
        for part in rates.parts:
            is_new = part.name not in self._kept
            epochs = max(0.0, recipe.epochs - self._kept.get(part.name, 0.0))
            size = part.values * (epochs * self.counts.train + is_new * others)
            share = min(1.0, (self.limit - self.stored) / size) if size else 1.0
            self.stored += share * size
            self._kept[part.name] = self._kept.get(part.name, 0.0) + share * epochs
            self.seconds += part.seconds * epochs * self.counts.train
            if is_new or share < 1:
                again = (recipe.epochs - 1) * (1 - share)
                self.seconds += part.seconds * validation * (1 + again)
        self.seconds += recipe.epochs * self.counts.train * rates.step
        self.seconds += recipe.epochs * validation * rates.rest

    def evaluate(self, recipe: Recipe, rates: "Rates") -> None:
        """A model on validation and test images."""
        seconds = rates.rest
        for part in rates.parts:
            is_known = part.name in self._evaluated and not recipe.flip_averaging
            seconds += 0 if is_known and self.limit else part.seconds
        seconds *= rates.larger
        self.seconds += self.counts.others * seconds * (2 if recipe.flip_averaging else 1)


# Said to people.


def main() -> None:
    if len(sys.argv) != 2:
        raise UserError("usage: python -m tools.estimate FOLDER")
    folder = Path(sys.argv[1])
    params = load_params(folder / "params.yaml")
    images = survey(folder / params.images.path)
    name = folder.resolve().name
    print(f"images:  {images.count:,}, {gigabytes(images.size)}, in {params.images.path}")
    if is_finished(folder):
        print(f"         {name}/ has their results; only what has changed since runs again")
        return
    discard_variables()
    begin = time.monotonic()
    from tools.speed import measure  # not at the top: the import takes seconds, and is measured

    start = time.monotonic() - begin
    speed = measure(params, images.samples)
    needs = forecast(params, images, speed, start)
    print(f"time:    about {duration(needs.seconds)} for {', '.join(params.approaches)}")
    free = shutil.disk_usage(folder).free
    there = size_of(folder)
    disk = max(0, needs.disk - there)
    print(
        f"disk:    {gigabytes(needs.disk)} in {name}/, and up to {gigabytes(needs.cache)} in its "
        f".cache/; {gigabytes(free)} are free"
    )
    print(f"memory:  {gigabytes(needs.memory)}; {gigabytes(free_memory())} are free", flush=True)
    if disk > free:
        raise UserError(
            f"{folder}: the disk has {gigabytes(free)} free, and this needs {gigabytes(disk)} "
            f"(images and models, each twice); free some space, or work on another disk"
        )


def is_finished(folder: Path) -> bool:
    """Whether the last run was of the same images and approaches, and came to its end."""
    if not (folder / "dvc.lock").exists():
        return False
    params = read_yaml(folder / "params.yaml")
    stages = read_yaml(folder / "dvc.lock").get("stages", {})
    wanted = {"images": {"images": params["images"]}, "report": {"train": params["train"]}}
    for name, approach in params["approaches"].items():
        wanted[f"train@{name}"] = {f"approaches.{name}": approach}
    for stage, values in wanted.items():
        recorded = stages.get(stage, {}).get("params", {}).get("params.yaml", {})
        if not values.items() <= recorded.items():
            return False
    return True


def size_of(folder: Path) -> int:
    """Bytes of what earlier runs left in a sandbox, apart from its .cache/."""
    found = 0
    for place in (folder / "data", folder / "models", folder / ".dvc" / "cache"):
        found += sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return found


def free_memory() -> int:
    """Bytes of memory that a new program can have, as far as the system says."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""
    found = re.search(r"^MemAvailable: +(\d+) kB$", lines, re.MULTILINE)
    return (
        int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )


def gigabytes(size: float) -> str:
    """Bytes for people, of 10^9 bytes a gigabyte."""
    if size < 0.0995 * GIGABYTE:
        return f"{math.ceil(size / 10**6):,} MB"
    return f"{size / GIGABYTE:.1f} GB"


def duration(seconds: float) -> str:
    """Seconds for people, in minutes or hours."""
    minutes = math.ceil(seconds / 60)
    if minutes < 100:
        return f"{minutes} minute{'s' * (minutes > 1)}"
    return f"{seconds / 3600:.1f} hours"


if __name__ == "__main__":
    with for_people():
        main()
