"""Images straight from the archive are those that prepare stored."""

from pathlib import Path

import numpy as np

from pipeline.data.originals import central_squares
from pipeline.data.pixels import Split
from pipeline.data.raw import read_index
from pipeline.params import load_params


def test_central_squares_are_the_pixels_that_prepare_stored(project: Path) -> None:
    test, index = Split(project / "data" / "pixels", "test"), read_index(project / "data" / "raw")
    members = dict(zip(index["member"], index["id"], strict=True))
    wanted = {member: number for member, number in members.items() if number in test.ids[[5, 0, 11]]}
    transforms = load_params(project / "params.yaml").transforms.model_dump()
    squares = central_squares(project / "data" / "raw" / "images.tar", wanted, transforms)
    assert set(squares) == set(test.ids[[5, 0, 11]])
    for row in (5, 0, 11):
        assert np.array_equal(squares[test.ids[row]], test.image(row))
