"""Archives are read to their last byte, at random or in order, and no crafted one does harm."""

import bz2
import gzip
import hashlib
import lzma
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.data.archive import LARGEST, Archive, Limits, image_digests, read_tar

COMPRESSIONS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress]


def entry(name: str, size: int = 0, kind: bytes = b"0", content: bytes = b"") -> bytes:
    """One entry as it is in a tar file; its header may claim any size."""
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    sign = b"\x80" if size >= 0 else b"\xff"
    header[124:136] = sign + (size % 256**11).to_bytes(11)
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + b"\0" * (-len(content) % 512)


def sparse(name: str) -> bytes:
    """An entry of five bytes of which one is in the archive."""
    header = tarfile.TarInfo(name)
    header.size = 1
    header.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "5"}
    return header.tobuf(tarfile.PAX_FORMAT) + b"a" + bytes(511)


NAMES = ["jpg/1.jpg", "jpg/2.jpg", "jpg/3.jpg"]
WHOLE = b"".join(entry(name, len(name), content=name.encode()) for name in NAMES)
END = b"\0" * 1024


def read_all(path: Path) -> dict[str, bytes | None]:
    entries = read_tar(path, lambda name, head: name in NAMES)
    return {entry.name: entry.content for entry in entries}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_members_are_read_at_random_by_several_threads(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    names = [f"{number}.jpg" for number in range(50)]
    contents = {name: hashlib.sha256(name.encode()).digest() * 100 for name in names}
    entries = [entry(name, len(content), content=content) for name, content in contents.items()]
    path = write(tmp_path / "x.tar", compress(b"".join(entries) + END))
    order = names[::-1] * 4
    with Archive(path) as archive, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(archive.read, order)) == [contents[name] for name in order]


def test_a_plain_archive_is_read_where_it_is_and_a_compressed_one_is_unpacked_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = write(tmp_path / "plain.tar", WHOLE + END)
    compressed = write(tmp_path / "compressed.tgz", gzip.compress(WHOLE + END))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    with Archive(compressed) as archive:
        assert not list((tmp_path / "scratch").iterdir())
        assert archive.read("jpg/2.jpg") == b"jpg/2.jpg"
    monkeypatch.setattr("pipeline.data.archive.SPARE", 1 << 60)
    with pytest.raises(UserError, match=r"compressed\.tgz: unpacking .* bytes free in .*scratch"):
        Archive(compressed)
    with Archive(plain) as archive:
        assert archive.read("jpg/2.jpg") == b"jpg/2.jpg"


def test_only_wanted_members_of_a_compressed_archive_take_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x.tgz", gzip.compress(WHOLE + END))
    with Archive(path, ["jpg/2.jpg"]) as archive:
        assert archive.read("jpg/2.jpg") == b"jpg/2.jpg"
    monkeypatch.setattr("pipeline.data.archive.SPARE", 1 << 60)
    Archive(path, []).close()


def test_a_member_that_is_missing_or_not_a_regular_file_is_named(tmp_path: Path) -> None:
    others = entry("link.jpg", kind=b"2") + entry("device.jpg", kind=b"3") + sparse("holes.jpg")
    path = write(tmp_path / "x.tar", WHOLE + others + END)
    with Archive(path) as archive:
        with pytest.raises(UserError, match=r"x\.tar: has no 'jpg/4\.jpg'"):
            archive.read("jpg/4.jpg")
        for name in ("link.jpg", "device.jpg", "holes.jpg"):
            with pytest.raises(UserError, match=rf"x\.tar, '{name}': is a link, a device or"):
                archive.read(name)
            with pytest.raises(UserError, match=rf"x\.tar, '{name}': is a link, a device or"):
                image_digests(path, [name])
        path.write_bytes(WHOLE[:600])
        with pytest.raises(UserError, match=r"x\.tar, 'jpg/3\.jpg': was cut short meanwhile"):
            archive.read("jpg/3.jpg")


def test_digests_are_those_of_the_images_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tgz", gzip.compress(WHOLE + END))
    members = [NAMES[2], NAMES[0]]
    expected = [hashlib.sha256(name.encode()).hexdigest() for name in members]
    assert image_digests(path, members) == expected
    with pytest.raises(UserError, match=r"has 3 of the 4 images of the index \(jpg/4\.jpg is"):
        image_digests(path, [*NAMES, "jpg/4.jpg"])


HOSTILE = [
    (WHOLE + entry("/etc/1.jpg") + END, r", '/etc/1.jpg': its name points out of the archive"),
    (WHOLE + entry("jpg/../../1.jpg") + END, r", 'jpg/../../1.jpg': its name points out"),
    (WHOLE + entry("jpg/1.jpg") + END, r", 'jpg/1.jpg': occurs twice"),
    (WHOLE + entry("x", 2**50) + END, r"'x': 4 entries, 1,125,899,906,8.* not photographs"),
    (WHOLE + entry("x", -1024) + END, r"\('x' claims -1,024 bytes\)"),
    (entry("x", 2**50, b"x") + WHOLE + END, r"\('x' claims 1,125,899,906,842,624 bytes"),
    (entry("x", 2**24, b"L", bytes(2**24)) + WHOLE + END, r"\('x' claims 16,777,216 bytes"),
    (
        entry("x", 18, b"x", b"18 size=-99999999\n") + entry("y") + END,
        "'y': its size is given as -99,999,999",
    ),
    (entry("x", 5, b"L", b"name\0") * 3000 + END, "maximum recursion depth"),
    (WHOLE + END + WHOLE + END, r"after 'jpg/3.jpg' \(something else follows\)"),
    (
        WHOLE + b"".join(entry(f"{number}.jpg") for number in range(12_000)) + END,
        r"'10\d\d\d.jpg': 10,\d\d\d entries, .* are not photographs",
    ),
    (b"<html>", r"\(it does not begin as one\)"),
    (b"", r"\(it does not begin as one\)"),
]


@pytest.mark.parametrize("read", [read_all, Archive])
@pytest.mark.parametrize(("content", "message"), HOSTILE)
def test_a_crafted_archive_is_refused_in_one_line_and_the_entry_named(
    tmp_path: Path, content: bytes, message: str, read: Callable[[Path], object]
) -> None:
    path = write(tmp_path / "bad.tgz", gzip.compress(content, 1))
    with pytest.raises(UserError, match=rf"bad\.tgz.*{message}") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_bomb_of_sizes_that_are_each_allowed_is_refused(tmp_path: Path) -> None:
    limits = Limits(write(tmp_path / "small", b"..."))
    for number in range(3):
        limits.check(str(number), LARGEST)
    message = r"small, 'last': 4 entries, 1,073,743,872 bytes so far, in an archive of only 3"
    with pytest.raises(UserError, match=message):
        limits.check("last", LARGEST)


@pytest.mark.parametrize("read", [read_all, Archive])
def test_damage_is_noticed_to_the_last_byte(tmp_path: Path, read: Callable[[Path], object]) -> None:
    whole = gzip.compress(WHOLE + END)
    flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]
    for damaged in (whole[:60], whole[:-4], flipped, whole + whole, whole + b"more"):
        with pytest.raises(UserError, match=r"x\.tgz.*(cannot be read as a tar file|occurs twice)"):
            read(write(tmp_path / "x.tgz", damaged))
    for size in (600, len(WHOLE) - 1):
        with pytest.raises(UserError, match=r"x\.tar: cannot be read as a tar file"):
            read(write(tmp_path / "x.tar", WHOLE[:size]))


def test_other_entries_are_passed_over(tmp_path: Path) -> None:
    others = [
        entry("jpg/notes.txt"),
        entry("jpg", kind=b"5"),
        entry("link", kind=b"2"),
    ]
    path = write(tmp_path / "x.tar", WHOLE + b"".join(others) + END)
    contents: dict[str, bytes | None] = {name: name.encode() for name in NAMES}
    assert read_all(path) == contents | {"jpg/notes.txt": None, "link": None}
