"""The source folder: a person's own images, at CLASS/IMAGE or SPLIT/CLASS/IMAGE.

They are in a folder, or in a zip or tar file of one. If there are no folders train, val and test,
the split of an image is a function of its content and a seed. So one image more or less moves no
other, and identical images are in the same split.
"""

import hashlib
import io
import os
import re
import stat
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.base.errors import UserError, listed
from pipeline.data.archive import Limits, read_tar
from pipeline.data.raw import INDEX_COLUMNS, SPLITS, SUFFIXES, RawData
from pipeline.params import Images, Shares

Note = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """What the folders around an image say of it.

    Attributes:
        split: None if no folder says it.
        label: name of the class.
    """

    split: str | None
    label: str


def read(images: Images, scratch: Path, note: Note) -> RawData:
    """The archive, its index and the names of the classes, in natural order.

    Args:
        images: ``path`` is the folder or file; ``split`` is for images whose split no folder says.
        scratch: where to write the archive.
        note: takes one line about anything unexpected.

    Raises:
        UserError: what training needs is missing, or a file cannot be read.
    """
    path = Path(images.path)
    names_by_digest = _write_archive(path, scratch, note)
    places = _find_places([name for names in names_by_digest.values() for name in names], path)
    splits = {place.split for place in places.values()}
    if splits == {"train", "test"}:
        note(
            f"{path}: there is no folder val, so the share images.split.val of the images of train "
            "becomes val"
        )
    for names in names_by_digest.values():
        if len({places[name] for name in names}) > 1:
            note(
                f"{path}: one image is in several splits or classes, which makes accuracies too "
                f"high: {listed(names)}"
            )
    rows = list(_index_rows(names_by_digest, places, images.split))
    index = pd.DataFrame(rows, columns=list(INDEX_COLUMNS))
    index = index.sort_values("member", ignore_index=True)
    classes = sorted(set(index["label"]), key=_natural)
    _check(index, classes, path, note)
    return RawData(scratch, index.assign(label=index["label"].map(classes.index)), classes)


def _write_archive(path: Path, archive: Path, note: Note) -> dict[bytes, list[str]]:
    """Write all images below ``path`` to a tar file, without times or owners.

    Returns:
        Their names, by the SHA-256 of their content.
    """
    names_by_digest = defaultdict(list)
    left_out = []
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in _files(path):
            if content is None:
                left_out.append(name)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            names_by_digest[hashlib.sha256(content).digest()].append(name)
    if left_out:
        note(
            f"{path}: left out links and files that are not images ({len(left_out):,}): "
            f"{listed(left_out)}"
        )
        if any(re.search(r"\.hei[cf]$", name, re.IGNORECASE) for name in left_out):
            note(
                f"{path}: HEIC images must be converted first, for example by heif-convert of the "
                "package libheif-examples"
            )
    return names_by_digest


def _index_rows(
    names_by_digest: Mapping[bytes, list[str]], places: Mapping[str, Place], shares: Shares
) -> Iterator[tuple[str, int, str, str, str]]:
    """Member, id, split, name of the class and SHA-256 of every image."""
    splits = {place.split for place in places.values()}
    for digest, names in names_by_digest.items():
        for copy, name in enumerate(sorted(names)):
            place = places[name]
            split = place.split
            if split is None:
                split = _draw_split(digest, shares, ("val", "test"))
            elif split == "train" and "val" not in splits:
                split = _draw_split(digest, shares, ("val",))
            yield name, _image_id(digest, copy), split, place.label, digest.hex()


def _image_id(digest: bytes, copy: int) -> int:
    """The id of an image by its digest; further copies of it (1, 2, ...) have ids of their own."""
    if copy:
        digest = hashlib.sha256(digest + bytes([copy % 256, copy // 256])).digest()
    return int.from_bytes(digest[:8]) >> 1


def _draw_split(digest: bytes, shares: Shares, drawn: tuple[str, ...]) -> str:
    """One of the splits ``drawn``, by their shares, or train; a function of content and seed."""
    address = hashlib.sha256(str(shares.seed).encode() + digest).digest()
    position = int.from_bytes(address[:8]) / 2**64  # uniform in 0..1
    if position < shares.val:
        return "val"
    if "test" in drawn and position < shares.val + shares.test:
        return "test"
    return "train"


def _files(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """All files of a folder, zip or tar file.

    Yields:
        Path in it; content, or None if it is not an image (by its name) or not a regular file.
    """
    if path.is_dir():
        yield from _files_of_folder(path)
    elif not path.is_file():
        raise UserError(f"images.path = {path}: no such folder, zip or tar file")
    elif _is_zip(path):
        yield from _files_of_zip(path)
    else:
        yield from read_tar(path, _is_image)


def _files_of_folder(path: Path) -> Iterator[tuple[str, bytes | None]]:
    unreadable: list[str] = []
    walk = os.walk(path, onerror=lambda error: unreadable.append(str(error.filename)))
    found = [Path(folder) / name for folder, folders, files in walk for name in [*folders, *files]]
    for file in sorted(found):
        name = file.relative_to(path).as_posix()
        try:
            if file.is_dir() and not file.is_symlink():
                continue
            is_regular = file.is_file() and not file.is_symlink()
            content = file.read_bytes() if is_regular and _is_image(name) else None
        except OSError:
            unreadable.append(name)
        else:
            yield name, content
    _refuse_unreadable(path, unreadable)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _files_of_zip(path: Path) -> Iterator[tuple[str, bytes | None]]:
    unreadable: list[str] = []
    limits = Limits(path)
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises all kinds of errors, depending on the bytes
        raise UserError(
            f"images.path = {path}: cannot be read as a zip file ({error}); get it again"
        ) from None
    with archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
        for entry in entries:
            limits.check(entry.filename, entry.file_size, may_repeat=_is_folder(entry))
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            is_regular = kind in (0, stat.S_IFREG)
            try:
                is_wanted = is_regular and _is_image(entry.filename)
                content = archive.read(entry) if is_wanted else None
            except Exception:  # as above
                unreadable.append(entry.filename)
                continue
            if not _is_folder(entry):
                yield entry.filename, content
    _refuse_unreadable(path, unreadable)


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.endswith("/")  # ZipInfo.is_dir fails on an empty name


def _refuse_unreadable(path: Path, names: list[str]) -> None:
    if names:
        raise UserError(
            f"images.path = {path}: {len(names):,} files cannot be read: {listed(names)}"
        )


def _is_image(name: str) -> bool:
    """Whether a file is an image by its name, is not hidden, and has a name that can be written."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding
        return False
    parts = PurePosixPath(name).parts
    is_hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not is_hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def _find_places(names: list[str], path: Path) -> dict[str, Place]:
    """Split and class of every image, by the folders that it is in."""
    parts = {name: PurePosixPath(name).parts for name in names}
    if not parts:
        raise UserError(
            f"images.path = {path}: no image in it; put images into a folder for each class"
        )
    while _have_common_folder(parts.values()):
        parts = {name: parents[1:] for name, parents in parts.items()}
    has_splits = any(len(part) == 3 and part[0] in SPLITS for part in parts.values())
    if has_splits:
        wrong = [name for name, part in parts.items() if len(part) != 3 or part[0] not in SPLITS]
        expected = "train/CLASS/IMAGE, val/CLASS/IMAGE or test/CLASS/IMAGE"
    else:
        wrong = [name for name, part in parts.items() if len(part) != 2]
        expected = "CLASS/IMAGE"
    if wrong:
        raise UserError(
            f"images.path = {path}: {len(wrong):,} images are not at {expected}: {listed(wrong)}"
        )
    return {
        name: Place(split=part[0] if has_splits else None, label=part[-2])
        for name, part in parts.items()
    }


def _have_common_folder(paths: Iterable[tuple[str, ...]]) -> bool:
    """Whether one folder is around everything, as in many archives, and is not a split or class."""
    paths = list(paths)
    tops = {path[0] for path in paths}
    return len(tops) == 1 and tops.isdisjoint(SPLITS) and min(map(len, paths)) > 2


def _check(index: pd.DataFrame, classes: list[str], path: Path, note: Note) -> None:
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
        missing = [name for name in classes if name not in present]
        if not missing:
            continue
        text = (
            f"{len(missing):,} of {len(classes):,} classes have no image in {split}: "
            f"{listed(missing)}"
        )
        if split == "train" or not present:
            raise UserError(f"images.path = {path}: {text}; add images, or change images.split")
        note(f"{path}: {text}")
    sizes = index["split"].value_counts()
    counts = ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS)
    note(f"{path}: {len(classes):,} classes, {counts} images")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts class 2 before class 10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]
