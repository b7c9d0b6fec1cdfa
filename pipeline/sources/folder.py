"""The source folder: a person's own images in a folder, or in a zip or tar file of one.

Classes and splits are said by the folders around the images or by a table beside them; splits that
are not there are drawn. Every file is used, or left out by name with the reason.
"""

import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.base.errors import UserError, listed
from pipeline.base.parallel import cpu_workers, parallel_map
from pipeline.base.progress import progress
from pipeline.data.images import Examined, examine
from pipeline.data.raw import (
    INDEX_COLUMNS,
    LEFT_OUT_COLUMNS,
    SPLITS,
    UNLABELLED_COLUMNS,
    RawData,
)
from pipeline.data.signatures import kind_of
from pipeline.params import Images
from pipeline.sources.files import SUFFIXES, File, LeftOutError, Note, read_files
from pipeline.sources.layout import Layout, Place, read_folders
from pipeline.sources.splits import Drawn, draw_splits
from pipeline.sources.table import LARGEST, Table, is_candidate, read_names, read_places, read_table

NOT_AN_IMAGE = "not an image"


@dataclass
class Found:
    """The files of the data.

    Attributes:
        digests: SHA-256 of each image that can be read, by its name.
        unreadable: why an image cannot be read, by its name.
        others: why any other file is left out, by its name.
        tables: files that may hold labels or names, by name.
        folders: all folders.
        scaled: how values were scaled to 8 bits: how many images.
    """

    digests: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    tables: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    scaled: Counter[str] = field(default_factory=Counter)


def read(images: Images, scratch: Path, note: Note) -> RawData:
    """The archive, its index, the names of the classes, and what is not used.

    Args:
        images: that section of params.yaml.
        scratch: where to write the archive.
        note: takes one line about anything unexpected, and about how the data were understood.

    Raises:
        UserError: what training needs is missing, or the files cannot be read.
        LeftOutError: too many images cannot be read, or all of a class.
    """
    path = Path(images.path)
    found = _write_archive(path, scratch, images, note)
    names = [*found.digests, *found.unreadable]
    if not names:
        raise UserError(
            f"images.path = {path}: no image in it; put images into a folder for each class"
        )
    layout = _read_layout(found, sorted(names), images, path)
    used = {name: layout.places[name] for name in sorted(found.digests) if name in layout.places}
    labelled = {name: place for name, place in used.items() if place.label is not None}
    labels = sorted({str(place.label) for place in labelled.values()}, key=natural)
    map_file, class_names = read_names(found.tables, labels)
    for name in (*layout.tables, map_file):
        found.others.pop(name, None)
    left_out = pd.DataFrame(
        sorted({**found.others, **layout.left_out, **found.unreadable}.items()),
        columns=list(LEFT_OUT_COLUMNS),
    )
    for line in [*_notes(found, layout), *layout.notes]:
        note(f"{path}: {line}")
    if map_file:
        note(f"{path}: {map_file} names the classes: {labels[0]!r} is {class_names[labels[0]]!r}")
    _check_unreadable(found, layout, left_out, images)

    ids = _image_ids(found.digests)
    splits = _splits(labelled, found.digests, images, path, note)
    rows = [
        (name, ids[name], split, labels.index(str(place.label)), found.digests[name])
        for (name, place), split in zip(labelled.items(), splits, strict=True)
    ]
    index = pd.DataFrame(rows, columns=list(INDEX_COLUMNS))
    others = [
        (name, ids[name], found.digests[name])
        for name, place in used.items()
        if place.label is None
    ]
    unlabelled = pd.DataFrame(others, columns=list(UNLABELLED_COLUMNS))
    if others:
        note(f"{path}: images without a class, predicted at the end: {len(others):,}")
    classes = [class_names.get(label, label) for label in labels]
    _note_copies(found.digests, labelled, splits, path, note)
    _check_classes(index, classes, path, note)
    return RawData(scratch, index, classes, unlabelled, left_out)


# Files.


def _is_wanted(name: str, head: bytes) -> bool:
    """Whether the content of a file is needed, by its name and first bytes."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in SUFFIXES or is_candidate(name) or kind_of(head) != ""


def _write_archive(path: Path, archive: Path, images: Images, note: Note) -> Found:
    """Write all images below ``path`` to a tar file, without times or owners."""
    found = Found()
    files = read_files(path, _is_wanted, images.encoding, note)
    examined = parallel_map(_examined, files, cpu_workers("auto"))
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for file, seen in progress(examined, None, f"reading {path.name}", "files"):
            name, content = file.name, file.content
            is_image = seen is not None and seen.is_image
            should_be = PurePosixPath(name).suffix.lower() in SUFFIXES
            if name.endswith("/") and not file.fault:
                found.folders.add(name.rstrip("/"))
            elif file.fault:
                (found.unreadable if should_be else found.others)[name] = file.fault
            elif seen is not None and (seen.fault and (is_image or should_be)):
                found.unreadable[name] = seen.fault
            elif name in found.digests:
                found.others[f"{name} (a second one)"] = "another file has the same name"
            elif content is not None and is_image:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                found.digests[name] = hashlib.sha256(content).hexdigest()
                found.scaled.update([seen.scaled] if seen and seen.scaled else [])
            else:
                found.others[name] = NOT_AN_IMAGE
                if content is not None and len(content) < LARGEST:
                    found.tables[name] = content
    return found


def _examined(file: File) -> tuple[File, Examined | None]:
    return file, None if file.content is None else examine(file.content)


def _image_ids(digests: dict[str, str]) -> dict[str, int]:
    """The id of each image: of its content; further copies of it have ids of their own."""
    ids = {}
    copies: Counter[str] = Counter()
    for name in sorted(digests):
        digest = bytes.fromhex(digests[name])
        copy = copies[digests[name]]
        copies[digests[name]] += 1
        if copy:
            digest = hashlib.sha256(digest + bytes([copy % 256, copy // 256 % 256])).digest()
        ids[name] = int.from_bytes(digest[:8]) >> 1
    return ids


# What is said of the images.


def _read_layout(found: Found, names: Sequence[str], images: Images, path: Path) -> Layout:
    """By a table if params name one, or if folders say nothing; else by folders."""
    folders = None
    innermost = images.class_folder == "innermost"
    if images.table in ("auto", "none"):
        folders = read_folders(names, path, innermost, images.groups == "folder")
        labels = {place.label for place in folders.places.values()} - {None}
        if images.table == "none":
            return _with_classes(folders, path)
    tables = list(_tables(found, images, path))
    by_table = read_places(tables, names, path, images.columns) if tables else None
    if by_table is None and images.table not in ("auto", "none"):
        raise UserError(
            f"images.table = {images.table}: has no column of images and of labels; there are "
            f"{listed([*tables[0].cells])}"
        )
    if by_table is None:
        assert folders is not None
        return _with_classes(folders, path)
    used = by_table.tables
    if folders is not None and len(labels) > 1:
        if not _tells_more(by_table, folders):
            folders.notes.append(
                f"folders are the classes; {listed(used)} is not used (images.table: "
                f"{used[0]} uses it)"
            )
            return folders
        by_table.notes.append(
            f"{listed(used)} says the classes, not the folders (images.table: none uses folders)"
        )
    return by_table


def _with_classes(layout: Layout, path: Path) -> Layout:
    if not any(place.label for place in layout.places.values()):
        raise UserError(
            f"images.path = {path}: no folder says a class, and no table of labels is there; put "
            "images into a folder for each class, or a table (docs/own-images.md) beside them"
        )
    return layout


def _tables(found: Found, images: Images, path: Path) -> Iterator[Table]:
    """The tables of the data that may have labels, or the one that params name."""
    if images.table not in ("auto", "none"):
        if images.table not in found.tables:
            raise UserError(
                f"images.table = {images.table}: no such file in {path}; there are "
                f"{listed(sorted(found.tables)) or 'no tables'}"
            )
        table = read_table(images.table, found.tables[images.table])
        if table is None:
            raise UserError(f"images.table = {images.table}: is no table")
        yield table
        return
    for name in sorted(found.tables):
        table = read_table(name, found.tables[name])
        if table is not None and len(table.cells):
            yield table


def _tells_more(table: Layout, folders: Layout) -> bool:
    """Whether a table says classes that folders do not: it names nearly all, otherwise."""
    said = [name for name, place in table.places.items() if place.label]
    if len(said) < 0.9 * len(table.places):
        return False
    same = sum(
        name in folders.places and folders.places[name].label == table.places[name].label
        for name in said
    )
    has_groups = any(table.places[name].group or table.places[name].split for name in said)
    return same < 0.5 * len(said) or has_groups


def _notes(found: Found, layout: Layout) -> Iterator[str]:
    """What was left out or changed, a line each."""
    if found.others:
        yield f"left out other files ({len(found.others):,}): {listed(sorted(found.others))}"
    if layout.left_out:
        some = sorted(layout.left_out)
        yield (
            f"left out images that are in no class ({len(some):,}): {listed(some)}; the first "
            f"{layout.left_out[some[0]]}"
        )
    if found.unreadable:
        some = sorted(found.unreadable)
        reasons = Counter(found.unreadable.values())
        why = "; ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(5))
        yield f"left out images that cannot be read ({len(some):,}): {why}: {listed(some)}"
    for scaled, count in sorted(found.scaled.items()):
        yield f"{scaled} (images: {count:,})"
    around = {PurePosixPath(folder).parent for folder in layout.class_folders}
    used = {
        str(parent)
        for name in [*layout.places, *layout.left_out]
        for parent in PurePosixPath(name).parents
    }
    empty = [name for name in found.folders - used if PurePosixPath(name).parent in around]
    if empty:
        yield f"class folders without an image: {listed(sorted(empty, key=natural))}"


def _check_unreadable(found: Found, layout: Layout, left_out: pd.DataFrame, images: Images) -> None:
    """Refuse to leave out too much."""
    where = f"images.path = {images.path}"
    good = {layout.places[name].label for name in found.digests if name in layout.places}
    bad = {layout.places[name].label for name in found.unreadable if name in layout.places}
    gone = [str(label) for label in bad - good - {None}]
    if gone:
        raise LeftOutError(
            f"{where}: no image of {listed(sorted(gone, key=natural))} can be read "
            f"({'; '.join(sorted(set(found.unreadable.values())))[:300]}); repair them, or remove "
            "the class",
            left_out,
        )
    count = len(found.unreadable)
    total = count + len(found.digests)
    if count > images.unreadable * total:
        raise LeftOutError(
            f"{where}: {count:,} of {total:,} images cannot be read, more than "
            f"images.unreadable = {images.unreadable:g} allows: "
            f"{listed(sorted(found.unreadable))}; repair or remove them, or set it to "
            f"{_rounded_up(count / total)}",
            left_out,
        )


def _rounded_up(share: float) -> float:
    return min(1.0, int(share * 100 + 1) / 100)


def _splits(
    labelled: dict[str, Place], digests: dict[str, str], images: Images, path: Path, note: Note
) -> list[str]:
    """The split of each image, drawn where nothing says it."""
    said = {place.split for place in labelled.values()} - {None}
    missing = [split for split in ("val", "test") if split not in said]
    if said and "train" not in said and all(place.split for place in labelled.values()):
        raise UserError(
            f"images.path = {path}: no image is in train, only in {listed(sorted(map(str, said)))}"
        )
    if said and missing:
        shares = " and ".join(f"images.split.{split}" for split in missing)
        note(
            f"{path}: no labelled images of {' and '.join(missing)}: {shares} are the shares of "
            "train, drawn by class, that become it"
        )
    splits = [place.split or "train" for place in labelled.values()]
    rows = [row for row, split in enumerate(splits) if split == "train"]
    if missing:
        names = list(labelled)
        pool = [
            Drawn(str(labelled[names[row]].label), digests[names[row]], labelled[names[row]].group)
            for row in rows
        ]
        for row, split in zip(rows, draw_splits(pool, images.split, missing), strict=True):
            splits[row] = split
    groups: dict[str, set[str]] = {}
    for place, split in zip(labelled.values(), splits, strict=True):
        if place.group:
            groups.setdefault(place.group, set()).add(split)
    torn = sorted(group for group, of_it in groups.items() if len(of_it) > 1)
    if torn:
        note(f"{path}: groups that the data put into several splits: {listed(torn)}")
    return splits


def _note_copies(
    digests: dict[str, str],
    labelled: dict[str, Place],
    splits: Sequence[str],
    path: Path,
    note: Note,
) -> None:
    """Note identical images that are in several classes or splits."""
    places: dict[str, dict[str, tuple[str | None, str]]] = {}
    for (name, place), split in zip(labelled.items(), splits, strict=True):
        places.setdefault(digests[name], {})[name] = (place.label, split)
    torn = [of_it for of_it in places.values() if len(set(of_it.values())) > 1]
    for of_it in torn[:5]:
        note(
            f"{path}: one image is in several splits or classes, which makes accuracies wrong: "
            f"{listed(sorted(of_it))}"
        )
    if torn[5:]:
        note(f"{path}: and {len(torn) - 5:,} more images are so (report/index.html lists them)")


def _check_classes(index: pd.DataFrame, classes: list[str], path: Path, note: Note) -> None:
    """Refuse what cannot be learned from, and note what evaluation will lack."""
    if len(classes) < 2:
        raise UserError(
            f"images.path = {path}: only one class, {classes[0]!r}; a comparison needs two or more"
        )
    cases = Counter(name.casefold() for name in classes)
    alike = [name for name in classes if cases[name.casefold()] > 1]
    if alike:
        note(f"{path}: classes whose names differ only in upper and lower case: {listed(alike)}")
    for split in SPLITS:
        present = set(index.loc[index["split"] == split, "label"])
        missing = [name for label, name in enumerate(classes) if label not in present]
        if not missing:
            continue
        text = (
            f"{len(missing):,} of {len(classes):,} classes have no image in {split}: "
            f"{listed(missing)}"
        )
        if split == "train" or not present:
            raise UserError(f"images.path = {path}: {text}; add images of them")
        note(f"{path}: {text}")
    sizes = index["split"].value_counts()
    counts = ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS)
    note(f"{path}: {len(classes):,} classes, {counts} images")


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts class 2 before class 10; of 1, 01 and 001 each has its own place."""
    parts = re.split(r"(\d+)", name)
    key = [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
    return key, name
