"""Decoded pixels: the images of a split, decoded and resized once and kept in the cache.

An entry of the cache holds ``SHARD`` images one behind another (uint8 [bytes]: RGB, rows from the
top), and their heights and widths. Where the cache has no room, images are decoded when needed.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import pandas as pd
from PIL import features

from pipeline.base.cache import Cache, Entry, source_digest
from pipeline.base.errors import UserError
from pipeline.base.parallel import parallel_map
from pipeline.base.progress import progress
from pipeline.data.archive import Archive
from pipeline.data.images import HEIF_READER, Preprocessing, central, centre, decode, fitted

SHARD = 256  # images in an entry of the cache: 40 to 70 MB at 256 pixels
DECODERS = ("pil", "libjpeg_turbo", "jpg", "jpg_2000", "zlib", "libtiff", "webp", "avif")


@dataclass(frozen=True)
class Split:
    """The images of a split, in the order of the index.

    Attributes:
        name: train, val or test.
        members: names in the archive.
        ids, labels: int64 [n].
        digests: SHA-256 of the encoded images, hex.
    """

    name: str
    members: list[str]
    ids: np.ndarray
    labels: np.ndarray
    digests: list[str]

    def __len__(self) -> int:
        return len(self.ids)


def read_split(index: pd.DataFrame, name: str) -> Split:
    """One split of an index as :func:`pipeline.data.raw.read_index` gives it."""
    rows = index[index["split"] == name]
    return Split(
        name,
        rows["member"].tolist(),
        rows["id"].to_numpy("int64", copy=True),  # copies, for torch takes writable arrays only
        rows["label"].to_numpy("int64", copy=True),
        rows["sha256"].tolist(),
    )


@dataclass
class Pixels:
    """The decoded images of a split at one size.

    Images of train stay whole, for they are cropped at random later; of the others the central
    square is kept.

    Attributes:
        archive: opens the file of encoded images; called when the first image is to be decoded.
        preprocessing: of which std does not matter here, and the mean only with fit pad.
        workers: threads that decode.
    """

    archive: Callable[[], Archive]
    split: Split
    preprocessing: Preprocessing
    cache: Cache
    workers: int
    _lock: Lock = field(default_factory=Lock)
    _archive_lock: Lock = field(default_factory=Lock)
    _shards: list[Entry | None] | None = None

    def image(self, row: int) -> np.ndarray:
        """Image ``row``: uint8 [height, width, 3].

        Raises:
            UserError: images cannot be decoded; it names them.
        """
        number, place = divmod(int(row), SHARD)
        if entry := self._entries()[number]:
            try:
                return _image(entry, place)
            except OSError:  # another process made room meanwhile
                pass
        return self._decode(int(row))

    def central(self, rows: Iterable[int]) -> np.ndarray:
        """The central squares of the images ``rows``: uint8 [len(rows), crop, crop, 3]."""
        side = self.preprocessing.crop
        squares = []
        for image in map(self.image, rows):
            top, left = centre(image.shape[0], image.shape[1], side)
            squares.append(image[top : top + side, left : left + side])
        return np.stack(squares)

    def largest_size(self) -> int:
        """Bytes that all images have if they are half as long again as wide, as photographs are."""
        size = self.preprocessing
        ratio = 1 if size.fit == "pad" else 1.5
        places = ratio * size.resize**2 if self._keeps_whole() else size.crop**2
        return int(3 * places) * len(self.split)

    def key(self, start: int, stop: int) -> dict[str, object]:
        """All that determines the pixels of the images ``start`` to ``stop``, for the cache."""
        size = self.preprocessing
        code = [f"pipeline/data/{name}.py" for name in ("depth", "images", "pixels")]
        return {
            "images": _joint_digest(self.split.digests[start:stop]),
            "resize": size.resize,
            "crop": "whole images" if self._keeps_whole() else size.crop,
            "pad": [size.crop, size.canvas] if size.fit == "pad" else None,
            "decoders": {name: features.version(name) for name in DECODERS} | {"heif": HEIF_READER},
            "code": source_digest(*code),
        }

    def _keeps_whole(self) -> bool:
        return self.split.name == "train"

    def _entries(self) -> list[Entry | None]:
        """The cache's entry for each shard, or None where there is none and no room for one."""
        with self._lock:
            if self._shards is None:
                self._shards = list(self._open())
            return self._shards

    def _open(self) -> Iterator[Entry | None]:
        """Open each shard in the cache; decode and store those that are not there."""
        faults: list[str] = []
        has_room = True
        count = len(self.split)
        shards = [(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]
        title = f"pixels of {self.split.name}"
        for start, stop in progress(shards, count, title, count=lambda shard: shard[1] - shard[0]):
            entry = self.cache.get("pixels", self.key(start, stop))
            if entry is None and has_room and self.cache.limit:
                decoded = self._decode_all(range(start, stop), faults)
                if not faults:
                    content = np.concatenate([image.reshape(-1) for image in decoded])
                    sizes = [image.shape[:2] for image in decoded]
                    entry = self.cache.put("pixels", self.key(start, stop), content, sizes)
                    has_room = entry is not None
            yield entry
        if faults:
            shown = "; ".join(faults[:10])
            raise UserError(shown + (f"; and {len(faults) - 10:,} more" if faults[10:] else ""))

    def _decode_all(self, rows: Iterable[int], faults: list[str]) -> list[np.ndarray]:
        """Decode on several threads; what is wrong with images that cannot be, goes to faults."""

        def decode_or_say(row: int) -> np.ndarray | str:
            try:
                return self._decode(row)
            except UserError as error:
                return str(error)

        found = list(parallel_map(decode_or_say, rows, self.workers))
        faults += [result for result in found if isinstance(result, str)]
        return [result for result in found if not isinstance(result, str)]

    def _decode(self, row: int) -> np.ndarray:
        member = self.split.members[row]
        with self._archive_lock:
            archive = self.archive()
        name = f"{archive.path}, {member}"
        image = fitted(decode(archive.read(member), name), self.preprocessing)
        return np.asarray(image if self._keeps_whole() else central(image, self.preprocessing.crop))


def _image(entry: Entry, place: int) -> np.ndarray:
    sizes = np.array(entry.note)
    bytes_of = sizes[:, 0] * sizes[:, 1] * 3
    start = int(bytes_of[:place].sum())
    height, width = sizes[place]
    return entry.array()[start : start + int(bytes_of[place])].reshape(height, width, 3)


def _joint_digest(digests: list[str]) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
