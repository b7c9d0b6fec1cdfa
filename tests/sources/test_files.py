"""Every file of a folder or archive comes with its content, or with the reason why not."""

import os
import stat
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.sources.files import File, read_files


def read(path: Path, encoding: str | None = None) -> tuple[dict[str, File], list[str]]:
    """All files but folders, by name; notes."""
    notes: list[str] = []
    found = {file.name: file for file in read_files(path, lambda *_: True, encoding, notes.append)}
    return {name: file for name, file in found.items() if not name.endswith("/")}, notes


def contents(files: dict[str, File]) -> dict[str, bytes | None]:
    return {name: file.content for name, file in files.items() if not file.fault}


def faults(files: dict[str, File]) -> dict[str, str]:
    return {name: file.fault for name, file in files.items() if file.fault}


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_links_are_followed_and_circles_and_dead_ends_are_named(tmp_path: Path) -> None:
    write(tmp_path / "store" / "ant" / "1.jpg")
    own = tmp_path / "own"
    write(own / "bee" / "1.jpg", b"y")
    (own / "ant").symlink_to("../store/ant")
    (own / "bee" / "2.jpg").symlink_to(tmp_path / "store" / "ant" / "1.jpg")
    (own / "bee" / "circle").symlink_to(own)
    (own / "bee" / "3.jpg").symlink_to("nowhere")
    (own / "bee" / "4.jpg").symlink_to("4.jpg")
    os.mkfifo(own / "bee" / "pipe.jpg")
    files, notes = read(own)
    assert contents(files) == {"ant/1.jpg": b"x", "bee/1.jpg": b"y", "bee/2.jpg": b"x"}
    assert faults(files) == {
        "bee/circle": "a link to a folder that it is in",
        "bee/3.jpg": "a link to nothing",
        "bee/4.jpg": "too many levels of symbolic links",
        "bee/pipe.jpg": "not a regular file",
    }
    assert not notes


def test_only_wanted_files_are_read_whole_and_are_known_by_their_first_bytes(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a", b"\x89PNG" + bytes(1000))
    write(tmp_path / "b.jpg", b"text" * 100)

    def wanted(name: str, head: bytes) -> bool:
        assert len(head) == 256
        return head.startswith(b"\x89PNG")

    files = {file.name: file.content for file in read_files(tmp_path, wanted, None, print)}
    assert files == {"a": b"\x89PNG" + bytes(1000), "b.jpg": None}


def test_hidden_files_and_what_systems_leave_behind_are_skipped(tmp_path: Path) -> None:
    for name in (
        "a/1.jpg",
        "a/._1.jpg",
        ".DS_Store",
        "__MACOSX/a/1.jpg",
        "a/Thumbs.db",
        ".x/1.jpg",
    ):
        write(tmp_path / name)
    assert set(read(tmp_path)[0]) == {"a/1.jpg"}


def test_folders_come_too_so_that_empty_ones_are_seen(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.jpg")
    (tmp_path / "b").mkdir()
    names = [file.name for file in read_files(tmp_path, lambda *_: True, None, print)]
    assert names == ["a/", "a/1.jpg", "b/"]


def test_names_are_composed_and_those_of_another_encoding_are_read_as_latin(tmp_path: Path) -> None:
    write(tmp_path / unicodedata.normalize("NFD", "café.jpg"))
    write(tmp_path / os.fsdecode("thé.jpg".encode("latin-1")))
    files, notes = read(tmp_path)
    assert set(files) == {"café.jpg", "thé.jpg"}
    assert notes == [f"{tmp_path}: names that are not UTF-8 are read as Latin-1: 'thé.jpg'"]


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses it; a test that runs as root cannot make it do so."""
    write(tmp_path / "a" / "1.jpg")
    write(tmp_path / "a" / "2.jpg")
    openly = Path.open

    def refuse(path: Path, mode: str) -> object:
        if path.name == "1.jpg":
            raise PermissionError(13, "Permission denied")
        return openly(path, mode)

    monkeypatch.setattr(Path, "open", refuse)
    assert faults(read(tmp_path)[0]) == {"a/1.jpg": "permission denied"}


def write_zip(path: Path, names: dict[str, bytes], flags: int = 0) -> Path:
    """A zip file whose names are these bytes, not marked as UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        for place in names:
            archive.writestr(place, b"x")
    content = path.read_bytes()
    for place, name in names.items():
        assert len(place) == len(name)
        content = content.replace(place.encode(), name)
    path.write_bytes(content)
    return path


def test_names_in_a_zip_file_are_read_whoever_wrote_them(tmp_path: Path) -> None:
    rose = "薔薇"
    backslash = write_zip(tmp_path / "b.zip", {"photos@cat@1": b"photos\\cat\\1"})
    assert set(read(backslash)[0]) == {"photos/cat/1"}
    utf8 = write_zip(tmp_path / "u.zip", {"ABCDEF/1": rose.encode() + b"/1"})
    assert read(utf8) == ({f"{rose}/1": File(f"{rose}/1", b"x")}, [])

    japanese = write_zip(tmp_path / "j.zip", {"ABCD/1": rose.encode("cp932") + b"/1"})
    files, notes = read(japanese)
    assert set(files) == {rose.encode("cp932").decode("cp437") + "/1"}
    assert len(notes) == 1
    assert "are read as code page 437" in notes[0]
    assert "set images.encoding: cp932 (Japanese)" in notes[0]
    assert read(japanese, "cp932") == ({f"{rose}/1": File(f"{rose}/1", b"x")}, [])


def test_links_in_archives_are_left_out_with_the_remedy(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/2.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/1.jpg", b"x")
        archive.writestr(link, b"/etc/hostname")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(write(tmp_path / "1.jpg"), "a/1.jpg")
        target = tarfile.TarInfo("a/2.jpg")
        target.type = tarfile.SYMTYPE
        target.linkname = "1.jpg"
        tar.addfile(target)
    for path in (tmp_path / "x.zip", tmp_path / "x.tar"):
        files, _ = read(path)
        assert contents(files) == {"a/1.jpg": b"x"}
        assert faults(files) == {"a/2.jpg": "a link in an archive: unpack it and give the folder"}


def test_a_damaged_entry_of_a_zip_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.jpg", os.urandom(1000))
        archive.writestr("a/2.jpg", b"y" * 100)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    files, _ = read(path)
    assert contents(files) == {"a/2.jpg": b"y" * 100}
    assert faults(files)["a/1.jpg"].startswith("damaged in the archive (")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.7z", b"7z\xbc\xaf\x27\x1c\0\4", r"x\.7z: a 7z archive, .*; unpack it, and give the"),
        ("x.rar", b"Rar!\x1a\x07\0", r"x\.rar: a RAR archive"),
        ("x.zip", b"<html>", r"x\.zip: cannot be read as a tar file"),
        ("x.zip", b"PK\3\4", r"x\.zip: cannot be read as a zip file"),
    ],
)
def test_what_is_no_archive_that_can_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / name, content))
    with pytest.raises(UserError, match=r"nothing: no such folder, zip or tar file"):
        read(tmp_path / "nothing")


def test_an_encrypted_zip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.jpg", b"x")
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.zip: is encrypted; unpack it with its password"):
        read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/1.jpg", "'/etc/1.jpg': its name points out"),
        ("..\\1.jpg", r"'\.\./1.jpg': its name points out"),
        ("a/1.jpg", "'a/1.jpg': occurs twice"),
        ("a/large.jpg", "'a/large.jpg': its size is given as 9,999 bytes"),
    ],
)
def test_a_crafted_zip_file_is_refused_and_the_entry_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr("pipeline.data.archive.LARGEST", 9998)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.jpg", b"x")
        archive.writestr(name, bytes(9999 if "large" in name else 1))
    with pytest.raises(UserError, match=message):
        read(path)


def test_a_large_file_that_is_not_wanted_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.archive.LARGEST", 9998)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.h5", bytes(100_000))
        archive.writestr("a/1.jpg", b"x")
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        tar.add(write(tmp_path / "weights.h5", bytes(100_000)), "weights.h5")
        tar.add(write(tmp_path / "1.jpg"), "a/1.jpg")
    for name in ("x.zip", "x.tgz"):
        wanted = read_files(tmp_path / name, lambda name, head: name[-3:] == "jpg", None, print)
        assert {file.name: file.content for file in wanted} == {
            "weights.h5": None,
            "a/1.jpg": b"x",
        }
