"""No out says who made it, where or when."""

import getpass
import gzip
import io
import re
import socket
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.base.environment import PACKAGES
from tests.faults import digests, outs
from tools.commands import output

DATES = (
    "%Y-%m-%d",
    "%Y%m%d",
    "%Y:%m:%d",
    "%Y/%m/%d",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d",
    "%B %d",
)


def contents(data: bytes) -> Iterator[bytes]:
    """All that a file says: its bytes, what is packed in it, and the containers' own notes."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield f"gzip time {int.from_bytes(data[4:8], 'little')}".encode()
        yield from contents(gzip.decompress(data))
    elif data[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                yield "{}-{:02}-{:02}".format(*entry.date_time).encode()
                yield from contents(archive.read(entry))
    elif data[:4] == b"\x89PNG":
        with Image.open(io.BytesIO(data)) as image:
            yield repr(image.info).encode()
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                owner = f"owner {member.uname!r} {member.gname!r}"
                yield f"{owner} time {int(member.mtime)}".encode()


def needles(project: Path) -> dict[str, re.Pattern[bytes]]:
    """What must not be found, by a name.

    Words so short that chance could spell them are looked for only as owners.
    """
    user = getpass.getuser()
    words = [
        socket.gethostname(),
        user,
        str(Path.home()),
        str(project),
        str(project.resolve()),
        f"pytest-of-{user}",
        sys.prefix,
    ]
    found = {word: re.escape(word) for word in words if len(word) >= 5}
    found["owner"] = f"owner .*'{re.escape(user)}'"
    for day in {date.today(), datetime.now(UTC).date()}:
        for form in DATES:
            found[day.strftime(form)] = re.escape(day.strftime(form))
        found[f"{day:%b} {day.day:2}"] = f"{day:%b} {day.day:2}"  # as C's asctime has it
    # Seconds since 1970, of this day or so: ten digits or more that are no fraction.
    found["seconds"] = rf"(?<![0-9.]){int(time.time()) // 10**5}[0-9]{{5}}"
    return {name: re.compile(pattern.encode()) for name, pattern in found.items()}


def leaks(data: bytes, patterns: dict[str, re.Pattern[bytes]]) -> set[str]:
    return {
        name
        for part in contents(data)
        for name, pattern in patterns.items()
        if pattern.search(part)
    }


def test_no_out_says_who_made_it_where_or_when(project: Path) -> None:
    patterns = needles(project)
    files = list(digests(project, outs(project)))
    kinds = {".csv", ".html", ".jpg", ".json", ".png", ".safetensors", ".tar"}
    assert {Path(file).suffix for file in files} >= kinds
    for file in files:
        assert not leaks((project / file).read_bytes(), patterns), file


def test_every_stage_records_its_environment_beside_the_outs(project: Path) -> None:
    stages = yaml.safe_load((project / "dvc.lock").read_text())["stages"].values()
    commands = [stage["cmd"].removeprefix("python3 -m stages ").split() for stage in stages]
    names = {f"environment/{'-'.join(words)}.json" for words in commands}
    assert set(output(project, "git", "ls-files", "environment").split()) == names
    assert not [out for out in outs(project) if out.startswith("environment")]
    for name in names:
        data = (project / name).read_bytes()
        record = yaml.safe_load(data)
        assert all(record.values())
        assert {"python", "platform", "cpu", "jpeg", *PACKAGES} <= set(record)
        assert not leaks(data, needles(project))


def packed(text: str, container: str) -> bytes:
    """A file of the kind ``container`` with ``text`` hidden in it."""
    plain = b"\0" + text.encode() + b"\xff"
    file = io.BytesIO()
    if container == "gzip":
        return gzip.compress(plain, mtime=0)
    if container == "tar":
        with tarfile.open(fileobj=file, mode="w") as archive:
            member = tarfile.TarInfo("image")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        return gzip.compress(file.getvalue(), mtime=0)
    if container == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive_:
            archive_.writestr(zipfile.ZipInfo("entry"), text * 9, zipfile.ZIP_DEFLATED)
        return file.getvalue()
    if container == "png":
        info = PngInfo()
        info.add_text("Comment", text, zip=True)
        Image.new("L", (1, 1)).save(file, "PNG", pnginfo=info)
        return file.getvalue()
    return plain


@pytest.mark.parametrize("container", ["plain", "gzip", "tar", "zip", "png"])
def test_the_scan_finds_what_is_hidden(tmp_path: Path, container: str) -> None:
    patterns = needles(tmp_path)
    examples = {name: name for name in patterns} | {
        "seconds": f" {time.time()}",
        "owner": f"owner '{getpass.getuser()}'",
    }
    for name, text in examples.items():
        assert name in leaks(packed(text, container), patterns)
    assert not leaks(packed("nothing, 0.123456", container), patterns)


def test_the_scan_finds_owners_and_times_of_archives(tmp_path: Path) -> None:
    patterns = needles(tmp_path)
    member = tarfile.TarInfo("image")
    member.uname = getpass.getuser()
    member.mtime = time.time()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(member)
    assert leaks(file.getvalue(), patterns) >= {"owner", "seconds"}
    assert "seconds" in leaks(gzip.compress(b""), patterns)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive_:
        archive_.writestr("entry", "")
    assert leaks(file.getvalue(), patterns) == {f"{date.today():%Y-%m-%d}"}
