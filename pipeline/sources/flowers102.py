"""Oxford Flowers-102 (Nilsback & Zisserman, 2008): labels and splits of its images, from two MATLAB files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io

from pipeline.base.errors import UserError
from pipeline.base.files import hex_digest

# The official files, by SHA-256. scipy reads no others: its reader of MATLAB files is not made for bytes that nobody
# has checked (it crashes on damaged ones), and these are known to hold 102 classes and 1,020, 1,020 and 6,149 images.
LABELS = ("imagelabels.mat", "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d")
SPLITS = ("setid.mat", "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd")
# Names in setid.mat. (Some papers swap train and test; we do as the authors' file says.)
VARIABLES = {"train": "trnid", "val": "valid", "test": "tstid"}
CLASSES = 102


def read(settings: Mapping[str, Any], *_: Any) -> tuple[Path, pd.DataFrame, list[str]]:
    """The archive, its index and the names of the classes, as pipeline/data/raw.py defines them.

    The index has train, val and test one behind another, each in the order of ``setid.mat``. An id is the number in the
    name of the image's file, from 1; a label is that of ``imagelabels.mat`` less 1.

    Raises:
        UserError: not the official files of labels and splits.
    """
    from torchvision.datasets import Flowers102  # here, because it imports torch, and a test of the splits need not

    folder = Path(settings["path"])
    labels, splits = _read_official(folder, *LABELS)["labels"], _read_official(folder, *SPLITS)
    tables = []
    for split, variable in VARIABLES.items():
        ids = splits[variable]
        members = [f"jpg/image_{number:05d}.jpg" for number in ids]
        tables.append(pd.DataFrame({"member": members, "id": ids, "split": split, "label": labels[ids - 1] - 1}))
    return folder / "102flowers.tgz", pd.concat(tables, ignore_index=True), list(Flowers102.classes)


def _read_official(folder: Path, name: str, sha256: str) -> dict[str, np.ndarray]:
    """The vectors of a MATLAB file with this digest, as int64 arrays of one dimension."""
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path}: no such file; images.path must be the folder of the official files")
    if (found := hex_digest(path, "sha256")) != sha256:
        raise UserError(
            f"{path}: sha256:{found}, not the official file; for other labels or splits use images.source: indexed, "
            "with tables in place of MATLAB files"
        )
    content = scipy.io.loadmat(path)
    return {key: value.ravel().astype(np.int64) for key, value in content.items() if not key.startswith("__")}
