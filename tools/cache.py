"""What lies in .cache/, how much it is, and how much it may be. Usage: python -m tools.cache"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.base.cache import GIGABYTE, Cache, read_header
from pipeline.base.errors import for_people
from pipeline.params import load_params

COLUMNS = ("what", "of", "pixels", "precision", "epochs", "files", "GB", "last used")


class Content(NamedTuple):
    """What an entry of the cache holds, for people.

    Attributes:
        what: decoded pixels, or the outputs of frozen layers up to a module.
        of: which images, and which part of each.
        pixels: side of that part, and short side of the images.
        precision: of the network; empty for pixels.
    """

    what: str
    of: str = ""
    pixels: str = ""
    precision: str = ""


@dataclass
class Group:
    """Files of the cache that hold the same kind of thing.

    Attributes:
        size: bytes of all of them.
        last_used: seconds since 1970.
        epochs: of training, if they were made of the views of an epoch.
    """

    files: int = 0
    size: int = 0
    last_used: float = 0.0
    epochs: set[int] = field(default_factory=set)


def describe(kind: str, header: Mapping[str, Any]) -> Content:
    """What an entry holds.

    Args:
        kind: pixels or frozen, as the folders of the cache are called.
        header: by :func:`pipeline.base.cache.read_header`.

    Raises:
        LookupError, TypeError: it is not an entry of that kind.
    """
    key = header["key"]
    if kind == "pixels":
        if isinstance(key["crop"], int):
            return Content("pixels", "central squares", f"{key['crop']} of {key['resize']}")
        return Content("pixels", key["crop"], f"{key['resize']}")
    note = header["note"]
    views = key["views"]
    part, side = ("random crops", "side") if note["epoch"] else ("central squares", "crop")
    return Content(
        what=f"layers up to {note['module']}",
        of=f"{note['split']}, {part}",
        pixels=f"{views[side]} of {views['resize']}",
        precision=key["precision"],
    )


def group_files(cache: Cache) -> dict[Content, Group]:
    """The files of the cache by what they hold, in alphabetical order."""
    groups: dict[Content, Group] = {}
    for path, stat in cache.files().items():
        epoch = 0
        try:
            header, _ = read_header(path)
            content = describe(path.parent.name, header)
            if path.parent.name == "frozen":
                epoch = int(header["note"]["epoch"])
        except FileNotFoundError:  # another process made room meanwhile
            continue
        except (OSError, ValueError, LookupError, TypeError):
            content = Content("not readable")
        group = groups.setdefault(content, Group())
        group.files += 1
        group.size += stat.st_size
        group.last_used = max(group.last_used, stat.st_mtime)
        if epoch:
            group.epochs.add(epoch)
    return dict(sorted(groups.items()))


def table(groups: Mapping[Content, Group]) -> str:
    """A line for each group: what it holds, how much, and when a run last used it."""
    rows = [list(COLUMNS)]
    for content, group in groups.items():
        epochs = str(len(group.epochs)) if group.epochs else ""
        used = datetime.fromtimestamp(group.last_used).strftime("%Y-%m-%d %H:%M")
        rows.append([*content, epochs, f"{group.files:,}", gigabytes(group.size), used])
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = []
    for row in rows:
        cells = []
        for cell, width, column in zip(row, widths, COLUMNS, strict=True):
            is_number = column in ("epochs", "files", "GB")
            cells.append(cell.rjust(width) if is_number else cell.ljust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def gigabytes(size: int) -> str:
    """Bytes as gigabytes, with two decimals."""
    return f"{size / GIGABYTE:.2f}" if size >= 0.005 * GIGABYTE else "<0.01"


def main() -> None:
    limit = load_params("params.yaml").runtime.cache
    groups = group_files(Cache(Path(".cache").absolute(), int(limit * GIGABYTE)))
    bound = f"at most {limit:g} GB" if limit else "off"
    size = sum(group.size for group in groups.values())
    print(f".cache/: {gigabytes(size) if groups else 0} GB (runtime.cache: {bound})\n")
    if groups:
        print(table(groups), end="\n\n")
    print("Safe to delete at any time (rm -r .cache): a run computes again what it needs.")


if __name__ == "__main__":
    with for_people():
        main()
