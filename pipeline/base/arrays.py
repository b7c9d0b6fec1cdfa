"""Arrays in .npy files, written and read a piece at a time: memory stays the same however large they are.

Reads are plain reads, not a memory map, whose pages would count as the process's own.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.lib import format as npy

from pipeline.base.errors import UserError

DTYPES = (np.uint8, np.uint16, np.float32)  # of pixels, and of features (uint16: the bits of bfloat16)


class ArrayWriter:
    """A .npy file that grows along its first axis."""

    def __init__(self, file: Path, state: Mapping[str, Any] | None = None) -> None:
        """Write ``file`` anew; or, with the ``state`` of an earlier, interrupted writing, go on where that was.

        Raises:
            ValueError: the file does not hold what the state says.
        """
        self._file = file.open("r+b" if state else "wb")
        self._dtype: np.dtype = np.dtype(np.uint8)
        self._item: tuple[int, ...] = ()
        self.length, self._digest = 0, hashlib.sha256()
        if state:
            self._dtype, self._item = np.dtype(state["dtype"]), tuple(state["item"])
            self._header()
            self.length, rest = state["length"], state["length"] * math.prod(self._item) * self._dtype.itemsize
            while piece := self._file.read(min(rest, 1 << 20)):
                self._digest.update(piece)
                rest -= len(piece)
            if self.state() != state:
                raise ValueError(f"{file}: not what was written")
            self._file.truncate()

    def append(self, block: np.ndarray) -> None:
        """Write ``block`` [n, ...] behind what is there; type and shape of an item are those of the first block."""
        if not self.length:
            self._dtype, self._item = block.dtype, block.shape[1:]
            self._header()
        assert (block.dtype, block.shape[1:]) == (self._dtype, self._item)
        content = block.tobytes()
        self._file.write(content)
        self._digest.update(content)
        self.length += len(block)

    def state(self) -> dict[str, Any]:
        """What an interrupted writing goes on from: items so far, their type and shape, the SHA-256 of their bytes."""
        self._file.flush()
        state = {"length": self.length, "dtype": self._dtype.str, "item": list(self._item)}
        return state | {"sha256": self._digest.hexdigest()}

    def _header(self) -> None:
        # numpy leaves room for a first axis of any length, so the header keeps its size.
        shape = (self.length, *self._item)
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, *error: object) -> None:
        with self._file:
            self._file.seek(0)
            self._header()


class ArrayReader:
    """Reads from a .npy file, for any number of threads."""

    def __init__(self, file: Path) -> None:
        """Open ``file``.

        Raises:
            UserError: not such a file, or cut short.
        """
        try:
            mapped = npy.open_memmap(file, mode="r")
            if mapped.dtype not in DTYPES or not mapped.ndim or not mapped.flags.c_contiguous:
                raise ValueError(f"{mapped.dtype} {mapped.shape}")
        except OSError:
            raise
        except Exception as error:  # numpy raises whatever the bytes lead it into
            raise UserError(f"{file}: not a complete .npy file ({error}); delete it and run dvc repro") from None
        self.shape, self._dtype, self._start = mapped.shape, mapped.dtype, mapped.offset
        self._path, self._file, self._lock = file, file.open("rb"), Lock()

    def read(self, row: int, count: int) -> np.ndarray:
        """The ``count`` items of the first axis from ``row`` on.

        Raises:
            UserError: there are not so many.
        """
        if row + count > self.shape[0]:
            raise UserError(
                f"{self._path}: made with other params, it holds only {self.shape[0]:,} rows; run dvc repro"
            )
        item = self.shape[1:]
        size = int(np.prod(item))
        with self._lock:
            self._file.seek(self._start + row * size * self._dtype.itemsize)
            return np.fromfile(self._file, self._dtype, count * size).reshape(count, *item)
