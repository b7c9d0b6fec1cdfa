"""Images that DVC cannot follow, in a folder that it can.

DVC follows no links to folders, so what changes behind them would go unnoticed, and it fails at
links to nothing and at names that are not UTF-8.
"""

import os
import shutil
from pathlib import Path

from pipeline.base.errors import print_note
from pipeline.sources.files import as_text, walk


def without_links(images: Path, target: Path) -> Path:
    """``images``, or ``target`` with the same files where DVC cannot follow ``images``.

    Files in ``target`` are hard links where the disk allows it, and take no space then. What
    cannot be read is named, and left out.

    Args:
        images: a folder; an archive or a file stays as it is.
        target: a folder, which is made anew.
    """
    if not images.is_dir():
        return images
    entries = list(walk(images))
    if not any(
        place.is_symlink() or file.fault or as_text(file.name) != file.name
        for place, file in entries
    ):
        return images
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for place, file in entries:
        if file.fault:
            print_note(f"{images}: {file.name} is left out: {file.fault}")
            continue
        copy = target / as_text(file.name)
        if file.name.endswith("/"):
            copy.mkdir(parents=True, exist_ok=True)
            continue
        try:
            os.link(place.resolve(), copy)
        except OSError:
            shutil.copyfile(place, copy)
    print_note(
        f"{images} has links or names that DVC cannot follow: {target} has its files without them, "
        "as they are now"
    )
    return target
