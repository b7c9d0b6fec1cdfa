"""Both approaches on one's own images, in the folder own/.

Usage: python -m tools.own IMAGES [BACKBONE]

IMAGES is a folder, zip or tar file of CLASS/IMAGE, or of train/CLASS/IMAGE and so on. BACKBONE is a
file of ImageNet weights, in place of the download.
"""

import sys
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError, for_people
from tools.demo import reproduce
from tools.sandbox import PROJECT


def main() -> int:
    if len(sys.argv) not in (2, 3) or not all(sys.argv[1:]):
        raise UserError(
            "name your images: make own IMAGES=path/to/folder "
            "(and, without a network, BACKBONE=file)"
        )
    images, *backbone = (Path(argument).expanduser().resolve() for argument in sys.argv[1:])
    for path in (images, *backbone):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    changes: dict[str, Any] = {
        "download": {"archive": None, "labels": None, "splits": None},
        "draw": {"images": None, "backbone": None},
        "images": {"source": "folder", "path": str(images)},
        "published": {"feature_extraction": None, "fine_tuning": None},
    }
    if backbone:
        changes["download"]["backbone"] = None
        changes["backbone"] = {"path": str(backbone[0])}
    code = reproduce(PROJECT / "own", changes)
    if code and not backbone:
        print(
            "If the backbone could not be downloaded: "
            "make own IMAGES=… BACKBONE=file of ImageNet weights of a ResNet18"
        )
    return code


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
