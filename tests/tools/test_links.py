"""A folder with links becomes one that DVC can follow; any other stays where it is."""

import os
from pathlib import Path

import pytest

from tools.links import without_links


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_without_links_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "own" / "cat").mkdir(parents=True)
    (tmp_path / "own" / "cat" / "1.jpg").write_bytes(b"x")
    assert without_links(tmp_path / "own", tmp_path / "copy") == tmp_path / "own"
    archive = tmp_path / "own" / "cat" / "1.jpg"
    assert without_links(archive, tmp_path / "copy") == archive
    assert not (tmp_path / "copy").exists()


def test_links_and_names_that_dvc_cannot_follow_become_plain_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, own = tmp_path / "store", tmp_path / "own"
    for place in (store / "ant", own / "bee", own / "fox"):
        place.mkdir(parents=True)
        (place / "1.jpg").write_bytes(place.name.encode())
    (own / "ant").symlink_to(store / "ant")
    (own / "bee" / "2.jpg").symlink_to(store / "ant" / "1.jpg")
    (own / "bee" / "3.jpg").symlink_to("nowhere")
    (own / "bee" / "circle").symlink_to(own)
    (own / "bee" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"latin")
    copy = tmp_path / "copy"
    expected = {
        "ant/1.jpg": b"ant",
        "bee/1.jpg": b"bee",
        "bee/2.jpg": b"ant",
        "bee/café.jpg": b"latin",
        "fox/1.jpg": b"fox",
    }
    assert without_links(own, copy) == copy
    assert contents(copy) == expected
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    printed = capsys.readouterr().out
    assert "bee/3.jpg is left out: a link to nothing" in printed
    assert "bee/circle is left out: a link to a folder that it is in" in printed

    (own / "fox" / "1.jpg").unlink()
    without_links(own, copy)
    assert contents(copy) == {name: expected[name] for name in expected if name != "fox/1.jpg"}
