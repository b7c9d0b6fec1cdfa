"""The cache gives back what was stored or nothing, stays within its limit and fails no run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.base.cache import GIGABYTE, Cache, Entry, read_header, source_digest
from tests.small import flip_bit
from tools.sandbox import PROJECT

SIZE = 1000  # bytes of the arrays here
ENTRY = 1200  # more than the bytes of such an entry, less than SIZE + half of it


def key_of(name: str) -> dict[str, Any]:
    return {"images": name, "epoch": 1}


def array_of(name: str) -> np.ndarray:
    return np.random.default_rng(ord(name)).integers(0, 256, SIZE, np.uint8)


def store(cache: Cache, name: str) -> Entry | None:
    return cache.put("kind", key_of(name), array_of(name))


def holds(cache: Cache, name: str) -> bool:
    """Whether the cache has an entry; it is the right one."""
    entry = cache.get("kind", key_of(name))
    assert entry is None or np.array_equal(entry.array(), array_of(name))
    return entry is not None


def notes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines printed since the last call; all of them are notes."""
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert not printed.out
    assert all(line.startswith("note: ") for line in lines)
    return lines


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 10 * ENTRY)


def as_next_run(cache: Cache, limit: int | None = None) -> Cache:
    """The same folder, opened by another process."""
    return Cache(cache.folder, cache.limit if limit is None else limit)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint8),
        np.linspace(0, 1, 48, dtype=np.float32).reshape(2, 3, 4, 2),
        np.arange(24, dtype=np.uint16).reshape(4, 6)[:, ::2],  # not contiguous
    ],
)
def test_an_array_comes_back_as_it_was(cache: Cache, array: np.ndarray) -> None:
    note = {"split": "train", "sizes": [[3, 4], [5, 6]]}
    stored = cache.put("kind", key_of("a"), array, note)
    read = as_next_run(cache).get("kind", key_of("a"))
    assert stored
    assert read
    for entry in (stored, read):
        found = entry.array()
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(found, array)
        assert not found.flags.writeable
        assert entry.note == note
    header, _ = read_header(read.path)
    assert header["key"] == key_of("a")


def test_another_key_or_kind_has_another_entry(cache: Cache) -> None:
    store(cache, "a")
    assert holds(cache, "a")
    assert not holds(cache, "b")
    assert cache.get("other kind", key_of("a")) is None
    assert cache.get("kind", key_of("a") | {"epoch": 2}) is None
    assert cache.get("kind", dict(reversed(key_of("a").items()))) is not None


def test_a_limit_of_0_is_off(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    off = Cache(cache.folder, 0)
    assert store(off, "a") is None
    assert not cache.folder.exists()
    store(cache, "a")
    assert not holds(off, "a")
    assert not notes(capsys)


def test_what_does_not_fit_is_not_stored_and_nothing_goes_for_it(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    store(cache, "a")
    small = as_next_run(cache, limit=ENTRY - 300)
    assert store(small, "b") is None
    assert store(small, "c") is None
    (note,) = notes(capsys)
    assert "runtime.cache" in note
    assert "too little" in note
    assert holds(cache, "a")
    assert len(file_names(cache.folder)) == 1


def test_a_run_that_needs_more_than_the_limit_keeps_what_fits(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    bounded = as_next_run(cache, limit=2 * ENTRY)
    stored = [store(bounded, name) is not None for name in "abcd"]
    assert stored == [True, True, False, False]
    assert len(notes(capsys)) == 1
    assert [holds(as_next_run(cache), name) for name in "abcd"] == stored


def test_what_was_not_used_for_longest_goes_first(cache: Cache) -> None:
    for age, name in enumerate("abcd"):
        entry = store(cache, name)
        assert entry
        os.utime(entry.path, (age, age))
    assert holds(as_next_run(cache), "a")  # which makes it the last used
    later = as_next_run(cache, limit=4 * ENTRY)
    assert holds(later, "b")
    assert store(later, "e")  # c is older than d; b is in use, a was used since
    assert [holds(as_next_run(cache), name) for name in "abcde"] == [True, True, False, True, True]
    assert store(later, "f")
    assert store(later, "g")
    assert store(later, "h") is None  # all the others are in use: b, e, f, g
    assert [holds(as_next_run(cache), name) for name in "abefgh"] == [
        *(False, True, True, True, True, False)
    ]


def test_entries_are_listed_least_recently_used_first(cache: Cache) -> None:
    paths = []
    for age, name in zip((3, 1, 2), "abc", strict=True):
        entry = store(cache, name)
        assert entry
        os.utime(entry.path, (age, age))
        paths.append(entry.path)
    files = cache.files()
    assert list(files) == [paths[1], paths[2], paths[0]]
    assert sum(stat.st_size for stat in files.values()) < 3 * ENTRY


def test_one_changed_bit_anywhere_is_noticed(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = cache.put("kind", key_of("a"), np.arange(40, dtype=np.uint8), note=[1, 2])
    assert entry
    whole = entry.path.read_bytes()
    for place in range(len(whole)):
        entry.path.write_bytes(whole)
        flip_bit(entry.path, place, bit=place % 8)
        assert cache.get("kind", key_of("a")) is None, place
        assert not entry.path.exists()
    assert any(f"{entry.path}: damaged" in note for note in notes(capsys))
    assert cache.put("kind", key_of("a"), np.arange(40, dtype=np.uint8), note=[1, 2])
    assert entry.path.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content[:100],
        lambda content: content + b"\0",
        lambda content: bytes(len(content)),  # as some file systems leave it after a power cut
        lambda content: b"",
        lambda content: b"5\n",
        lambda content: b"[" * 100_000,
        lambda content: b'{"sha256": 1, "dtype": "|O", "shape": [1], "note": 1}\n12345678',
        lambda content: b'{"sha256": 1, "dtype": "|u1", "shape": 7, "note": 1}\n',
    ],
    ids=["cut", "half", "longer", "zeros", "empty", "number", "nested", "object", "no shape"],
)
def test_other_bytes_are_noticed(
    cache: Cache, capsys: pytest.CaptureFixture[str], change: Any
) -> None:
    entry = store(cache, "a")
    assert entry
    entry.path.write_bytes(change(entry.path.read_bytes()))
    assert not holds(cache, "a")
    (note,) = notes(capsys)
    assert note.startswith(f"note: {entry.path}: damaged (")
    assert not entry.path.exists()


def test_what_killed_processes_left_is_deleted(cache: Cache) -> None:
    entry = store(cache, "a")
    assert entry
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    of_killed = entry.path.with_name(f"{entry.path.name}.{killed.pid}.part")
    of_running = entry.path.with_name(f"{entry.path.name}.{os.getppid()}.part")
    of_killed.touch()
    of_running.touch()
    assert list(as_next_run(cache).files()) == [entry.path]
    assert not of_killed.exists()
    assert of_running.exists()


KILLED = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from pipeline.base.cache import Cache
if sys.argv[2] == "renaming":
    Path.replace = lambda *arguments: os._exit(1)
else:  # the system ends a process that writes more than this into a file
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
Cache(Path(sys.argv[1]), 10**9).put("kind", {"images": "a"}, np.ones(1_000_000, np.uint8))
"""


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_kill_while_writing_leaves_nothing_that_is_believed(tmp_path: Path, moment: str) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    done = subprocess.run(command, cwd=PROJECT)
    assert done.returncode
    (left,) = file_names(tmp_path)
    assert left.endswith(".part")
    cache = Cache(tmp_path, GIGABYTE)
    assert cache.get("kind", {"images": "a"}) is None
    assert cache.put("kind", {"images": "a"}, np.ones(10, np.uint8))
    assert len(file_names(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_is_one_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    cache = Cache(tmp_path / "cache", GIGABYTE)
    for name in "ab":
        assert not holds(cache, name)
        assert store(cache, name) is None
    (note,) = notes(capsys)
    assert note == (
        f"note: {tmp_path / 'cache'}: Not a directory; going on without storing, which is slower"
    )
    assert cache.files() == {}


def test_a_folder_that_cannot_be_read_is_one_note(
    cache: Cache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [store(cache, name) for name in "ab"]

    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert not holds(cache, "a")
        assert not holds(cache, "b")
    (note,) = notes(capsys)
    assert note.startswith(f"note: {cache.folder}: Permission denied")
    assert all(entry and entry.path.exists() for entry in entries)


def test_on_a_disk_that_is_nearly_full_nothing_is_stored(
    cache: Cache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store(cache, "a")
    nearly_full = SimpleNamespace(free=GIGABYTE)  # bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: nearly_full)
    assert store(cache, "b") is None
    assert store(cache, "c") is None
    (note,) = notes(capsys)
    assert "the disk is nearly full" in note
    assert holds(cache, "a")
    nearly_full.free += ENTRY
    assert store(cache, "b")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_a_disk_that_becomes_full_while_writing_is_one_note(
    cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    store(cache, "a")
    entries = [store(cache, name) for name in "bc"]
    for entry in entries:
        assert entry
        entry.path.unlink()
        temporary = entry.path.with_name(f"{entry.path.name}.{os.getpid()}.part")
        temporary.symlink_to("/dev/full")
    assert [store(cache, name) for name in "bc"] == [None, None]
    (note,) = notes(capsys)
    assert note == (
        f"note: {cache.folder}: No space left on device; going on without storing, which is slower"
    )
    assert len(list((cache.folder / "kind").iterdir())) == 1  # nothing unfinished
    assert holds(cache, "a")


AT_ONCE = """
import sys
from contextlib import suppress
from pathlib import Path
import numpy as np
from pipeline.base.cache import Cache
hits = 0
for turn in range(400):
    cache = Cache(Path(sys.argv[1]), 5 * 1300)  # as a process that has used nothing yet
    number = (turn * int(sys.argv[2])) % 10
    right = np.full(1000, number, np.uint8)
    entry = cache.get("kind", {"number": number}) or cache.put("kind", {"number": number}, right)
    with suppress(FileNotFoundError):  # the other process made room
        if entry:
            assert np.array_equal(entry.array(), right)
            hits += 1
print(hits)
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    """They store and delete the same few entries all the time."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, str(tmp_path), step],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for step in ("3", "7")
    ]
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, errors
        assert "damaged" not in errors
        assert int(printed) > 200
    assert 0 < len(file_names(tmp_path)) <= 6


def test_an_entry_that_is_deleted_while_it_is_open(cache: Cache) -> None:
    entry = store(cache, "a")
    assert entry
    mapped = entry.array()
    shutil.rmtree(cache.folder)
    assert np.array_equal(mapped, array_of("a"))
    with pytest.raises(FileNotFoundError):
        entry.array()
    assert not holds(cache, "a")
    assert store(cache, "a")


def test_the_digest_of_code_is_that_of_names_and_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.base.cache.__file__", str(tmp_path / "pipeline/base/cache.py"))
    package = tmp_path / "pipeline" / "data"
    package.mkdir(parents=True)
    (package / "a.py").write_text("a = 1\n")
    (package / "b.py").write_text("b = 1\n")
    digest = source_digest("pipeline/data")
    assert source_digest("pipeline/data/a.py", "pipeline/data/b.py") == digest
    (package / "notes.txt").write_text("no code\n")
    assert source_digest("pipeline/data") == digest
    (package / "b.py").write_text("b = 2\n")
    assert source_digest("pipeline/data") != digest
    (package / "b.py").write_text("b = 1\n")
    assert source_digest("pipeline/data") == digest
    (package / "b.py").rename(package / "c.py")
    assert source_digest("pipeline/data") != digest
