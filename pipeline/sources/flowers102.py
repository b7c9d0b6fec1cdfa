"""Oxford Flowers-102 (Nilsback & Zisserman, 2008): labels and splits from two MATLAB files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from pipeline.base.errors import UserError
from pipeline.base.files import hex_digest
from pipeline.data.archive import image_digests
from pipeline.data.raw import RawData
from pipeline.params import Images


@dataclass(frozen=True)
class OfficialFile:
    """A file of the data set, known by the SHA-256 of its bytes (hex)."""

    name: str
    sha256: str


# scipy reads no other files: its reader crashes on damaged ones, and these two are known to hold
# 102 classes and 1,020, 1,020 and 6,149 images.
LABELS = OfficialFile(
    "imagelabels.mat", "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d"
)
SPLITS = OfficialFile(
    "setid.mat", "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd"
)
ARCHIVE = "102flowers.tgz"
EXPECTED_PATH = "images.path must be the folder of the official files"
# Names of the splits in setid.mat. (Some papers swap train and test; we follow the authors' file.)
VARIABLES = {"train": "trnid", "val": "valid", "test": "tstid"}
# In the order of the labels. Source: torchvision.datasets.Flowers102.classes.
CLASSES = (
    "pink primrose",
    "hard-leaved pocket orchid",
    "canterbury bells",
    "sweet pea",
    "english marigold",
    "tiger lily",
    "moon orchid",
    "bird of paradise",
    "monkshood",
    "globe thistle",
    "snapdragon",
    "colt's foot",
    "king protea",
    "spear thistle",
    "yellow iris",
    "globe-flower",
    "purple coneflower",
    "peruvian lily",
    "balloon flower",
    "giant white arum lily",
    "fire lily",
    "pincushion flower",
    "fritillary",
    "red ginger",
    "grape hyacinth",
    "corn poppy",
    "prince of wales feathers",
    "stemless gentian",
    "artichoke",
    "sweet william",
    "carnation",
    "garden phlox",
    "love in the mist",
    "mexican aster",
    "alpine sea holly",
    "ruby-lipped cattleya",
    "cape flower",
    "great masterwort",
    "siam tulip",
    "lenten rose",
    "barbeton daisy",
    "daffodil",
    "sword lily",
    "poinsettia",
    "bolero deep blue",
    "wallflower",
    "marigold",
    "buttercup",
    "oxeye daisy",
    "common dandelion",
    "petunia",
    "wild pansy",
    "primula",
    "sunflower",
    "pelargonium",
    "bishop of llandaff",
    "gaura",
    "geranium",
    "orange dahlia",
    "pink-yellow dahlia?",
    "cautleya spicata",
    "japanese anemone",
    "black-eyed susan",
    "silverbush",
    "californian poppy",
    "osteospermum",
    "spring crocus",
    "bearded iris",
    "windflower",
    "tree poppy",
    "gazania",
    "azalea",
    "water lily",
    "rose",
    "thorn apple",
    "morning glory",
    "passion flower",
    "lotus",
    "toad lily",
    "anthurium",
    "frangipani",
    "clematis",
    "hibiscus",
    "columbine",
    "desert-rose",
    "tree mallow",
    "magnolia",
    "cyclamen",
    "watercress",
    "canna lily",
    "hippeastrum",
    "bee balm",
    "ball moss",
    "foxglove",
    "bougainvillea",
    "camellia",
    "mallow",
    "mexican petunia",
    "bromelia",
    "blanket flower",
    "trumpet creeper",
    "blackberry lily",
)


def read(images: Images, scratch: Path, note: Callable[[str], None]) -> RawData:
    """The archive, its index and the names of the classes.

    The index has train, val and test one after another, each in the order of ``setid.mat``. An id
    is the number in the name of the image's file, from 1; a label is that of ``imagelabels.mat``
    minus 1.

    Args:
        images: ``path`` is the folder with the archive and the two files; nothing else is used.
        scratch, note: not used.

    Raises:
        UserError: not the official files of labels and splits, or an archive that cannot be read or
            lacks images of the splits.
    """
    folder = Path(images.path)
    archive = folder / ARCHIVE
    labels = _read_official(folder, LABELS)["labels"]
    splits = _read_official(folder, SPLITS)
    tables = []
    for split, variable in VARIABLES.items():
        ids = splits[variable]
        table = pd.DataFrame(
            {
                "member": [f"jpg/image_{image_id:05d}.jpg" for image_id in ids],
                "id": ids,
                "split": split,
                "label": labels[ids - 1] - 1,
            }
        )
        tables.append(table)
    index = pd.concat(tables, ignore_index=True)
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; {EXPECTED_PATH}")
    index["sha256"] = image_digests(archive, index["member"].tolist())
    return RawData(archive, index, list(CLASSES))


def _read_official(folder: Path, file: OfficialFile) -> dict[str, np.ndarray]:
    """The vectors of an official MATLAB file, by name: int64 [n]."""
    path = folder / file.name
    if not path.is_file():
        raise UserError(f"{path}: no such file; {EXPECTED_PATH}")
    found = hex_digest(path, "sha256")
    if found != file.sha256:
        raise UserError(
            f"{path}: sha256:{found}, not the official file; for other labels or splits use "
            "images.source: indexed, with tables in place of MATLAB files"
        )
    content = scipy.io.loadmat(path)
    return {
        name: vector.ravel().astype(np.int64)
        for name, vector in content.items()
        if not name.startswith("__")
    }
