"""Few images, straight from the archive of raw data, as evaluation and prediction see them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.images import central, decode, resize
from pipeline.data.raw import read_archive


def central_squares(archive: Path, ids: Mapping[str, int], transforms: Mapping[str, Any]) -> dict[int, np.ndarray]:
    """Their central squares, by id: uint8 [crop, crop, 3].

    Args:
        ids: of the images, by member name.
        transforms: resize and crop, of params.yaml or of a model's header.

    Raises:
        UserError: as :func:`pipeline.data.raw.read_archive`.
    """
    return {
        number: np.array(central(resize(decode(encoded, name), transforms["resize"]), transforms["crop"]))
        for number, name, encoded in read_archive(archive, ids)
    }
