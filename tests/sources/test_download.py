"""Files come from http, file: and paths; only with the right checksum, and whole or not at all."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.params import load_params
from pipeline.sources.download import fetch
from tests.conftest import TINY, Run
from tools.sandbox import PROJECT, merge, update

CONTENT = bytes(range(256)) * 5000
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/file is whole, /short promises more than it sends, /moved points to /file; all else is not found."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        if self.path not in ("/file", "/short"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/file" else CONTENT[:1000])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.mark.parametrize("checksum", [MD5, SHA256, SHA256[: len("sha256:") + 8]])
@pytest.mark.parametrize("path", ["/file", "/moved"])
def test_fetch_over_http(server: str, tmp_path: Path, path: str, checksum: str) -> None:
    fetch(server + path, checksum, tmp_path / "out", "key")
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_fetch_from_a_path_and_a_file_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a folder" / "file 1"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    for number, url in enumerate([str(source), "a folder/file 1", source.as_uri()]):
        fetch(url, MD5, tmp_path / str(number), "key")
        assert (tmp_path / str(number)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "checksum", "message"),
    [
        ("/missing", MD5, "Not Found"),
        ("/short", MD5, "cut short, 1,000 of 1,280,000 bytes"),
        ("/file", "md5:" + "0" * 32, rf"have {MD5}, but download\.x\.checksum = md5:0000"),
    ],
)
def test_failures_name_the_key_and_the_url(server: str, tmp_path: Path, path: str, checksum: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        fetch(server + path, checksum, tmp_path / "out", "download.x")
    assert f"download.x.url = {server}{path}" in str(error.value)


def test_stage_leaves_nothing_behind_when_a_file_is_wrong(tmp_path: Path, run: Run) -> None:
    """Another checksum: one line, exit code 1, no out."""
    (tmp_path / "source").write_bytes(CONTENT)
    bad = {"url": str(tmp_path / "source"), "checksum": "md5:" + "0" * 32, "path": "data/x/file"}
    project = tmp_path / "project"
    update(project, merge(TINY, {"download": {"file": bad}}))
    result = run(project, "stages", "download", "file")
    assert result.returncode == 1
    assert result.stdout.startswith("error: download.file.url = ")
    assert result.stdout.count("\n") == 1
    assert not list((project / "data" / "x").iterdir())


def test_defaults_are_the_official_files() -> None:
    download = load_params(PROJECT / "params.yaml").download
    assert download["archive"].checksum == "md5:52808999861908f626f3c1f4e79d11fa"
    assert download["labels"].checksum == "md5:e0620be6f572b9609742df49c70aed4d"
    assert download["splits"].checksum == "md5:a5357ecc9cb78c4bef273ce3793fc85c"
    assert download["backbone"].url.endswith("/resnet18-f37072fd.pth")
