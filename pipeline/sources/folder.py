"""The source folder: one's own images, CLASS/IMAGE or SPLIT/CLASS/IMAGE, in a folder or in a zip or tar file of one.

Where there are no folders train, val and test, an image's split is a function of its content and a seed, so one more
image, or one less, moves no other, and identical images share a split.
"""

import hashlib
import io
import os
import re
import stat
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from pipeline.base.errors import UserError, listed
from pipeline.data.raw import SPLITS, SUFFIXES, Limits, read_tar

Place = tuple[str | None, str]  # split, where a folder says it, and class


def read(
    settings: Mapping[str, Any], scratch: Path, note: Callable[[str], None]
) -> tuple[Path, pd.DataFrame, list[str]]:
    """The archive, its index and the names of the classes (in natural order), as pipeline/data/raw.py defines them.

    Args:
        settings: ``images`` of params.yaml.
        scratch: where to write the archive.
        note: takes a line about what is not as one would expect.

    Raises:
        UserError: what training needs is missing, or a file cannot be read.
    """
    path = Path(settings["path"])
    others, alike = [], defaultdict(list)  # names of other files; names of images by the digest of their content
    with tarfile.open(scratch, "w", format=tarfile.PAX_FORMAT) as tar:  # no time stamp or owner goes into it
        for name, content in _files(path):
            if content is None:
                others.append(name)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            alike[hashlib.sha256(content).digest()].append(name)
    if others:
        note(f"{path}: left out, as links or no images ({len(others):,}): {listed(others)}")
        if any(re.search(r"\.hei[cf]$", name, re.IGNORECASE) for name in others):
            note(f"{path}: HEIC must be converted first, for example by heif-convert of the package libheif-examples")
    places = _places([name for names in alike.values() for name in names], path)
    splits = {split for split, _ in places.values()}
    if splits == {"train", "test"}:
        note(f"{path}: no folder val, so images.split.val of the images of train become val")

    rows = []
    for digest, names in alike.items():
        if len({places[name] for name in names}) > 1:
            note(f"{path}: one image stands in several splits or classes, so figures are too good: {listed(names)}")
        for copy, name in enumerate(sorted(names)):  # further copies need an id of their own
            number = hashlib.sha256(digest + bytes([copy % 256, copy // 256])).digest() if copy else digest
            given, label = places[name]
            split = _split(digest, given, splits, settings["split"])
            rows.append((name, int.from_bytes(number[:8]) >> 1, split, label))
    index = pd.DataFrame(rows, columns=["member", "id", "split", "label"]).sort_values("member", ignore_index=True)
    classes = sorted(set(index["label"]), key=_natural)
    _check(index, classes, path, note)
    return scratch, index.assign(label=index["label"].map(classes.index)), classes


def _files(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """All files in a folder, zip or tar file: path in it, content (None: no image by its name, a link, a device)."""
    if path.is_dir():
        yield from _in_folder(path)
    elif not path.is_file():
        raise UserError(f"images.path = {path}: no folder, zip or tar file")
    else:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        yield from _in_zip(path) if is_zip else read_tar(path, _is_image)


def _in_folder(path: Path) -> Iterator[tuple[str, bytes | None]]:
    unreadable: list[str] = []
    walk = os.walk(path, onerror=lambda error: unreadable.append(str(error.filename)))
    for file in sorted(Path(folder) / name for folder, links, files in walk for name in [*links, *files]):
        name = file.relative_to(path).as_posix()
        try:
            if file.is_symlink() or not file.is_dir():
                wanted = file.is_file() and not file.is_symlink() and _is_image(name)
                yield name, file.read_bytes() if wanted else None
        except OSError:
            unreadable.append(name)
    _refuse(path, unreadable)


def _in_zip(path: Path) -> Iterator[tuple[str, bytes | None]]:
    unreadable: list[str] = []
    limits = Limits(path)
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises whatever the bytes lead it into
        raise UserError(f"images.path = {path}: cannot be read as a zip file ({error}); get it again") from None
    with archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
        for entry in entries:
            limits.check(entry.filename, entry.file_size, entry.filename.endswith("/"))  # is_dir fails on no name
        for entry in entries:
            regular = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
            try:
                content = archive.read(entry) if regular and _is_image(entry.filename) else None
            except Exception:  # as above
                unreadable.append(entry.filename)
            else:
                if not entry.filename.endswith("/"):
                    yield entry.filename, content
    _refuse(path, unreadable)


def _refuse(path: Path, unreadable: list[str]) -> None:
    if unreadable:
        raise UserError(f"images.path = {path}: {len(unreadable):,} files cannot be read: {listed(unreadable)}")


def _is_image(name: str) -> bool:
    """By its name; hidden files, and names in bytes of another encoding, are none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    hidden = any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def _places(names: list[str], path: Path) -> dict[str, Place]:
    """Split and class of every image, from the folders that it lies in."""
    parts = {name: PurePosixPath(name).parts for name in names}
    if not parts:
        raise UserError(f"images.path = {path}: no image in it; put images into a folder for each class")
    tops = {part[0] for part in parts.values()}
    while len(tops) == 1 and tops.isdisjoint(SPLITS) and min(map(len, parts.values())) > 2:
        parts = {name: part[1:] for name, part in parts.items()}  # a folder around all, as archives have
        tops = {part[0] for part in parts.values()}
    depth = 3 if any(len(part) == 3 and part[0] in SPLITS for part in parts.values()) else 2
    wrong = [name for name, part in parts.items() if len(part) != depth or (depth == 3 and part[0] not in SPLITS)]
    if wrong:
        where = "CLASS/IMAGE" if depth == 2 else "train/CLASS/IMAGE, val/CLASS/IMAGE or test/CLASS/IMAGE"
        raise UserError(f"images.path = {path}: {len(wrong):,} images do not lie at {where}: {listed(wrong)}")
    return {name: (part[0] if depth == 3 else None, part[-2]) for name, part in parts.items()}


def _split(digest: bytes, given: str | None, splits: set[str | None], settings: Mapping[str, Any]) -> str:
    """The split of an image by its content, where no folder says it (``given``), or says train and there is no val."""
    if (given == "train" and "val" not in splits) or given is None:
        drawn = int.from_bytes(hashlib.sha256(f"{settings['seed']}".encode() + digest).digest()[:8]) / 2**64
        if drawn < settings["val"]:
            return "val"
        return "test" if given is None and drawn < settings["val"] + settings["test"] else "train"
    return given


def _check(index: pd.DataFrame, classes: list[str], path: Path, note: Callable[[str], None]) -> None:
    """Refuse what training needs, name what evaluation lacks."""
    if len(classes) < 2:
        raise UserError(f"images.path = {path}: only one class, {classes[0]!r}; a comparison needs two or more")
    cases = Counter(name.casefold() for name in classes)
    if alike := [name for name in classes if cases[name.casefold()] > 1]:
        note(f"{path}: classes whose names differ only in upper and lower case: {listed(alike)}")
    for split in SPLITS:
        there = set(index.loc[index["split"] == split, "label"])
        if missing := [name for name in classes if name not in there]:
            text = f"{len(missing):,} of {len(classes):,} classes have no image in {split}: {listed(missing)}"
            if split == "train" or not there:
                raise UserError(f"images.path = {path}: {text}; add images, or change images.split")
            note(f"{path}: {text}")
    sizes = index["split"].value_counts()
    note(f"{path}: {len(classes):,} classes, " + ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS) + " images")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts class 2 before class 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
