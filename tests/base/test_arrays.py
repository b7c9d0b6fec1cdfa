"""Arrays in files, a piece at a time."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.base.arrays import ArrayReader, ArrayWriter
from pipeline.base.errors import UserError


def test_arrays_written_in_blocks_are_plain_npy_files(tmp_path: Path) -> None:
    values = np.arange(1_200, dtype=np.float32).reshape(100, 3, 4)
    with ArrayWriter(tmp_path / "x.npy") as file:
        for start in range(0, 100, 7):
            file.append(values[start : start + 7])
    assert np.array_equal(np.load(tmp_path / "x.npy"), values)
    reader = ArrayReader(tmp_path / "x.npy")
    assert np.array_equal(reader.read(42, 1), values[42:43])
    assert np.array_equal(reader.read(98, 2), values[98:])
    with pytest.raises(UserError, match=r"x\.npy: made with other params, it holds only 100 rows"):
        reader.read(100, 1)


def test_an_array_cut_short_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(1_000))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"x\.npy: not a complete \.npy file"):
        ArrayReader(tmp_path / "x.npy")
