"""The source flowers102: the three official files become raw data, after their checks."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.raw import write_raw
from pipeline.sources.flowers102 import CLASSES, SIZES, check_splits, class_names, read_splits

if TYPE_CHECKING:
    from pipeline.params import Params


def main(params: "Params") -> None:
    folder = Path(params.images.path)
    index = read_splits(folder / "imagelabels.mat", folder / "setid.mat")
    check_splits(index, CLASSES, SIZES)
    write_raw(Path("data/raw"), folder / "102flowers.tgz", index, class_names())
