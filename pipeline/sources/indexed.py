"""The source indexed: raw data that already has its form, as drawn images, or one's own archive with tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.base.errors import UserError
from pipeline.data.raw import read_classes, read_index


def read(settings: Mapping[str, Any], *_: Any) -> tuple[Path, pd.DataFrame, list[str]]:
    """The archive, its index and the names of the classes, as pipeline/data/raw.py defines them.

    Raises:
        UserError: a file is missing, or a table is not as it must be.
    """
    folder = Path(settings["path"])
    archive = folder / "images.tar"
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; images.path must hold images.tar, index.csv and classes.csv")
    return archive, read_index(folder), read_classes(folder)
