"""Raw data has one form, and is read from exactly the images that its index names."""

import gzip
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.base.errors import UserError
from pipeline.data.raw import LARGEST, Limits, read_archive, read_classes, read_index, write_raw
from tests.conftest import Run, write_archive


def members(*ids: int) -> dict[str, int]:
    return {f"jpg/image_{number:05d}.jpg": number for number in ids}


INDEX = pd.DataFrame(
    {"member": ["a", "b", "c"], "id": [3, 1, 2], "split": ["train", "val", "test"], "label": [0, 1, 1]}
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "archive").write_bytes(b"a tar file")
    return tmp_path / "archive"


def test_raw_data_is_written_and_read(tmp_path: Path, archive: Path) -> None:
    write_raw(tmp_path / "raw", archive, INDEX, ["rose", "NA"])
    assert read_index(tmp_path / "raw").equals(INDEX)
    assert read_classes(tmp_path / "raw") == ["rose", "NA"]
    assert (tmp_path / "raw" / "images.tar").samefile(archive), "a second copy was made"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"member": ["a", "b", "a"]}, r"index\.csv: member 'a' stands twice"),
        ({"id": [3, 1, 3]}, r"index\.csv: id '3' stands twice"),
        ({"id": [3, 1, -2]}, "ids not negative"),
        (
            {"split": ["train", "val", "holdout"]},
            "the splits are 'holdout', 'train', 'val'; they must be train, val, test",
        ),
        ({"split": ["train", "train", "test"]}, "the splits are 'test', 'train'; they must be train, val, test"),
        ({"label": [0, 1, 2]}, "labels must be 0 to 1"),
        ({"label": ["rose", 1, 1]}, r"index\.csv: cannot be read"),
        (
            {"colour": [0, 0, 0]},
            "has columns 'member', 'id', 'split', 'label', 'colour'; they must be member, id, split, label",
        ),
    ],
)
def test_an_index_that_breaks_a_promise_is_refused(
    tmp_path: Path, archive: Path, change: dict[str, Any], message: str
) -> None:
    write_raw(tmp_path / "raw", archive, INDEX.assign(**change), ["rose", "lily"])
    with pytest.raises(UserError, match=message):
        read_index(tmp_path / "raw")


def test_archive_with_too_few_images(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "few.tgz", {1: b"a", 3: b"b"})
    with pytest.raises(UserError, match=r"holds 2 of the 3 images .*image_00002\.jpg is missing"):
        list(read_archive(archive, members(1, 2, 3)))


def entry(name: str, size: int = 0, kind: bytes = b"0", content: bytes = b"") -> bytes:
    """One entry as it stands in a tar file; its header may claim any size."""
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (b"\x80" if size >= 0 else b"\xff") + (size % 256**11).to_bytes(11)
    header[148:156], header[156:157] = b" " * 8, kind
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + b"\0" * (-len(content) % 512)


def sparse(name: str) -> bytes:
    """An entry of five bytes of which one is in the archive."""
    header = tarfile.TarInfo(name)
    header.size, header.pax_headers = 1, {"GNU.sparse.map": "0,1", "GNU.sparse.size": "5"}
    return header.tobuf(tarfile.PAX_FORMAT) + b"a" + bytes(511)


WHOLE = b"".join(entry(f"jpg/image_{n:05d}.jpg", 3, content=b"abc") for n in range(1, 4))
END = b"\0" * 1024


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE + entry("/etc/1.jpg") + END, r", '/etc/1.jpg': its name leads out"),
        (WHOLE + entry("jpg/../../1.jpg") + END, r", 'jpg/../../1.jpg': its name leads out"),
        (WHOLE + entry("jpg/image_00001.jpg") + END, r", 'jpg/image_00001.jpg': stands twice"),
        (entry("jpg/image_00001.jpg", kind=b"2") + WHOLE + END, r", 'jpg/image_00001.jpg': a link, a device"),
        (entry("jpg/image_00001.jpg", kind=b"3") + END, r", 'jpg/image_00001.jpg': a link, a device"),
        (sparse("jpg/image_00001.jpg") + END, r", 'jpg/image_00001.jpg': .* full of holes in place of an image"),
        (WHOLE + entry("x", 2**50) + END, r"after 'jpg/image_00003.jpg' \('x' claims 1,125,899,906,842,624 bytes"),
        (WHOLE + entry("x", -1024) + END, r"\('x' claims -1,024 bytes\)"),
        (entry("x", 2**50, b"x") + WHOLE + END, r"\('x' claims 1,125,899,906,842,624 bytes"),
        (entry("x", 2**24, b"L", bytes(2**24)) + WHOLE + END, r"\('x' claims 16,777,216 bytes"),
        (entry("x", 18, b"x", b"18 size=-99999999\n") + entry("y") + END, r"'y': its size is given as -99,999,999"),
        (entry("x", 5, b"L", b"name\0") * 3000 + END, "maximum recursion depth"),
        (WHOLE + END + WHOLE + END, r"after 'jpg/image_00003.jpg' \(something else follows\)"),
        (WHOLE + b"".join(entry(f"{n}.jpg") for n in range(12_000)) + END, r"'10\d\d\d.jpg': 10,\d\d\d entries, "),
        (b"<html>", r"\(it does not begin as one\)"),
        (b"", r"\(it does not begin as one\)"),
    ],
)
def test_a_crafted_archive_is_refused_and_the_entry_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.tgz"
    path.write_bytes(gzip.compress(content, 1))
    with pytest.raises(UserError, match=rf"bad\.tgz.*{message}") as error:
        list(read_archive(path, members(1, 2, 3)))
    assert "\n" not in str(error.value)


def test_a_bomb_of_sizes_that_are_each_allowed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"...")
    limits = Limits(tmp_path / "small")
    for number in range(3):
        limits.check(str(number), LARGEST)
    with pytest.raises(UserError, match=r"small, 'last': 4 entries, 1,073,743,872 bytes so far, in only 3"):
        limits.check("last", LARGEST)


def test_damage_is_noticed_to_the_last_byte_and_what_nobody_asked_for_is_passed_over(tmp_path: Path) -> None:
    others = (
        entry("jpg/image_abc.jpg") + entry("x/image_00001.txt") + entry("jpg", kind=b"5") + entry("link", kind=b"2")
    )
    whole = gzip.compress(WHOLE + others + END)
    path = tmp_path / "archive.tgz"
    path.write_bytes(whole)
    assert [content for _, _, content in read_archive(path, members(1, 2, 3))] == [b"abc"] * 3
    flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]
    for damaged in (whole[: len(whole) // 2], whole[:-4], flipped, whole + whole, whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"archive\.tgz.*cannot be read as a tar file|stands twice"):
            list(read_archive(path, members(1, 2, 3)))


def test_stage_with_an_unreadable_jpeg_writes_nothing(project: Path, run: Run) -> None:
    archive = project / "data" / "raw" / "images.tar"
    original = archive.read_bytes()
    prepared = {path.name: path.read_bytes() for path in (project / "data" / "pixels").iterdir()}
    try:
        images = {number: content for number, _, content in read_archive(archive, members(*range(1, 37)))}
        archive.unlink()
        write_archive(archive, images | {20: b"\xff\xd8 damaged"})
        result = run(project, "stages", "prepare")
    finally:
        archive.write_bytes(original)
    assert result.returncode == 1
    assert "error: data/raw/images.tar, jpg/image_00020.jpg: not a readable image" in result.stdout
    assert "Traceback" not in result.stdout
    assert {path.name: path.read_bytes() for path in (project / "data" / "pixels").iterdir()} == prepared
