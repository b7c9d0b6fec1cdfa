"""Raw images, decoded one by one for a page."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data.archive import Archive
from pipeline.data.images import Preprocessing, central_square, decode
from pipeline.data.raw import ARCHIVE


class RawImages:
    """The images of raw data, by their ids."""

    def __init__(self, raw: Path, index: pd.DataFrame) -> None:
        self._members = dict(zip(index["id"], index["member"], strict=True))
        self._archive = Archive(raw / ARCHIVE, index["member"].tolist())

    def whole(self, image_id: int) -> np.ndarray:
        """An image as its file has it, upright: uint8 [height, width, 3].

        Raises:
            UserError: it cannot be decoded.
        """
        return np.asarray(decode(*self._encoded(image_id)))

    def square(self, image_id: int, preprocessing: Preprocessing) -> np.ndarray:
        """The part of an image that evaluation sees: uint8 [crop, crop, 3].

        Raises:
            UserError: it cannot be decoded.
        """
        return central_square(*self._encoded(image_id), preprocessing)

    def _encoded(self, image_id: int) -> tuple[bytes, str]:
        """The content of the file, and its name for messages."""
        member = self._members[image_id]
        return self._archive.read(member), f"{self._archive.path}, {member}"
