"""Files come from servers of all kinds, file: and paths; whole and with the right checksum, or not at all."""

import hashlib
import http.server
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import UserError
from pipeline.params import load_params
from pipeline.sources.download import RETRY, UnreachableError, fetch
from tests.conftest import TINY, Run
from tools.sandbox import PROJECT, environment, merge, update

CONTENT = bytes(range(256)) * 5000
SIZE = len(CONTENT)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
QUICK = RETRY.new(backoff_factor=0.01, backoff_jitter=0.01, retry_after_max=0.2)
Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request by the next of its server's answers; the last one stays."""

    def do_GET(self) -> None:
        asked, answers = self.server.asked, self.server.answers  # type: ignore[attr-defined]
        asked.append(dict(self.headers))
        answers[min(len(asked), len(answers)) - 1](self)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def say(status: int = 200, body: bytes = CONTENT, length: int = -1, **headers: str) -> Answer:
    """An answer that promises ``length`` bytes (by default as many as there are) and then sends ``body``."""

    def answer(request: Handler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body) if length < 0 else length), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        with suppress(ConnectionError):  # who has seen enough hangs up
            request.wfile.write(body)

    return answer


def cut(size: int, mark: str = '"1"') -> Answer:
    return say(body=CONTENT[:size], length=SIZE, ETag=mark)


def rest(request: Handler) -> None:
    """What a Range asks for, if If-Range has the right mark; else all."""
    start = int(request.headers.get("Range", "bytes=0-")[6:-1]) if request.headers.get("If-Range") == '"1"' else 0
    part = f"bytes {start}-{SIZE - 1}/{SIZE}" if start else ""
    say(206 if start else 200, CONTENT[start:], Content_Range=part, ETag='"1"')(request)


def never(request: Handler) -> None:
    """Breaks off near the end, and sends another end when asked for it."""
    start = int(request.headers.get("Range", "bytes=0-")[6:-1])
    end = say(206, bytes(SIZE - start), Content_Range=f"bytes {start}-{SIZE - 1}/{SIZE}")
    (end if start else cut(1_200_000))(request)


def stall(request: Handler) -> None:
    cut(1000)(request)
    request.wfile.flush()
    request.server.closing.wait(2)  # type: ignore[attr-defined]


def trickle(request: Handler) -> None:
    """A byte now and then, never long enough without one to be timed out."""
    cut(1000)(request)
    with suppress(ConnectionError):
        for place in range(1000, 1100):
            request.wfile.write(CONTENT[place : place + 1])
            request.wfile.flush()
            if request.server.closing.wait(0.05):  # type: ignore[attr-defined]
                break


def endless(request: Handler) -> None:
    request.send_response(200)
    request.end_headers()
    with suppress(ConnectionError):
        while True:
            request.wfile.write(CONTENT)


def drop(request: Handler) -> None:
    """A connection that ends without an answer."""


Server = Callable[..., Any]


@pytest.fixture
def serve() -> Iterator[Server]:
    running = []

    def start(*answers: Answer) -> Any:
        server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.answers, server.asked, server.closing = answers, [], threading.Event()
        server.url = f"http://127.0.0.1:{server.server_address[1]}/file"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.closing.set()
        server.shutdown()
        server.server_close()


class Place:
    """Where a file goes, and what was said on its way."""

    def __init__(self, folder: Path) -> None:
        self.out, self.partial, self.notes = folder / "out", folder / "downloads" / "file.part", list[str]()

    def fetch(self, *sources: str | tuple[str, str], checksum: str = SHA256) -> bytes:
        pairs = [(source, checksum) if isinstance(source, str) else source for source in sources]
        fetch(pairs, self.out, self.partial, "download.x", self.notes.append, QUICK, (0.5, 0.5))
        return self.out.read_bytes()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_path_a_file_url_and_a_weaker_checksum(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a folder" / "file 1"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    for url in (str(source), "a folder/file 1", source.as_uri()):
        assert place.fetch(url) == CONTENT
    assert not place.notes
    for checksum in (MD5, SHA256[: len("sha256:") + 8]):
        assert place.fetch(str(source), checksum=checksum) == CONTENT
        assert place.notes.pop() == f"download.x.checksum = {checksum} fits other files too; the full one is {SHA256}"


@pytest.mark.parametrize(
    "answers",
    [
        [say()],  # whole
        [say(500), say(503), rest],
        [say(429, Retry_After="86400"), rest],
        [drop, rest],
        [stall, rest],
        [cut(1000), cut(70_000), rest],
        [cut(1000, ""), say()],  # no mark to go by: from the start
        [cut(1000), say(206, CONTENT[500:], Content_Range=f"bytes 500-{SIZE - 1}/{SIZE}"), rest],  # another part
        [cut(1000), say(206, CONTENT[500:-500], Content_Range=f"bytes 1000-{SIZE - 1}/{SIZE}"), rest],  # wrong bytes
        [cut(1000), say(416, b"", Content_Range="bytes */500"), rest],
        [cut(1000), say(ETag='"1"')],  # ignores the range
        [say(302, b"", Location="/elsewhere"), say()],
    ],
)
def test_what_a_second_try_mends(place: Place, serve: Server, answers: list[Answer]) -> None:
    server = serve(*answers)
    assert place.fetch(server.url) == CONTENT
    assert len(server.asked) == len(answers)
    assert not place.partial.exists()
    assert {path.suffix for path in place.partial.parent.iterdir()} <= {".lock"}


def test_a_server_that_trickles_is_not_waited_for(place: Place, serve: Server) -> None:
    server = serve(trickle, rest)
    assert place.fetch(server.url) == CONTENT
    arrived = re.search("broke off after ([0-9,]+) bytes", place.notes[0])
    assert arrived
    assert 1000 < int(arrived[1].replace(",", "")) < 1090  # it would have sent 1,100


def test_a_later_run_goes_on_where_the_last_one_ended(place: Place, serve: Server) -> None:
    server = serve(cut(500_000), say(404))
    with pytest.raises(UserError, match=r"404 Not Found"):
        place.fetch(server.url)
    assert place.partial.stat().st_size > 400_000
    server.answers = [*server.answers, rest]
    assert place.fetch(server.url) == CONTENT
    assert server.asked[-1]["If-Range"] == '"1"'
    assert int(server.asked[-1]["Range"][6:-1]) > 400_000


def test_a_file_that_changed_meanwhile_is_begun_anew(place: Place, serve: Server) -> None:
    server = serve(cut(1000, '"0"'), say(404), rest)
    with pytest.raises(UserError):
        place.fetch(server.url)
    assert place.fetch(server.url) == CONTENT
    assert (server.asked[-1]["Range"], server.asked[-1]["If-Range"]) == ("bytes=1000-", '"0"')


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (say(404), "the server answers 404 Not Found"),
        (say(500), "the server answers 500 Internal Server Error"),
        (cut(1000, ""), r"broke off after 1,000 bytes: .*1000 bytes read, 1279000 more expected"),
        (say(length=1000), r"damaged, or another file: 1,000 bytes with sha256:\w+, not sha256:"),
        (say(body=b"\n<!DOCTYPE html>"), "a web page, or another file: 16 bytes"),
        (say(body=b"<html>", Content_Type="text/html; charset=utf-8"), "a web page in place of the file"),
        (say(302, b"", Location="/file"), "Exceeded 10 redirects"),
        (say(302, b"", Location="file:///etc/hostname"), "No connection adapters were found for 'file:"),
        (say(body=CONTENT[:-1] + b"x"), f"another file: {SIZE:,} bytes"),
        (never, r"broke off after 1,200,000 bytes"),
    ],
)
def test_what_no_try_mends_never_gets_its_name_and_the_next_source_is_asked(
    place: Place, serve: Server, answer: Answer, message: str
) -> None:
    bad, good = serve(answer), serve(say())
    with pytest.raises(UserError, match=rf"^download\.x\.url: {bad.url}: .*{message}") as error:
        place.fetch(bad.url)
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, UnreachableError)
    assert not place.out.exists()
    assert place.fetch(bad.url, good.url) == CONTENT


def test_an_answer_without_end_leaves_room_on_the_disk(
    place: Place, tmp_path: Path, serve: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.download.SPARE", shutil.disk_usage(tmp_path).free - (5 << 20))
    with pytest.raises(UserError, match=r"only [\d,]+ bytes of disk are left, after [\d,]+ bytes"):
        place.fetch(serve(endless).url)
    assert place.partial.stat().st_size == 0


def test_sources_may_have_checksums_of_their_own_and_nobody_answering_is_told_apart(
    place: Place, serve: Server
) -> None:
    gone, other = serve(), serve(say(body=b"another format"))
    gone.shutdown()
    gone.server_close()
    with pytest.raises(UnreachableError, match=r"Connection refused.*nowhere\.invalid"):
        place.fetch(gone.url, "https://nowhere.invalid/file")
    assert (
        place.fetch(gone.url, (other.url, "sha256:" + hashlib.sha256(b"another format").hexdigest()))
        == b"another format"
    )


@pytest.mark.parametrize("checksum", [MD5, SHA256[:-1]])
def test_plain_http_needs_a_full_sha256(place: Place, serve: Server, checksum: str) -> None:
    server = serve(say())
    with pytest.raises(UserError, match=r"plain http .* is believed only with a full sha256"):
        place.fetch(server.url, checksum=checksum)
    assert not place.partial.exists()


def test_proxies_of_the_environment_are_used(place: Place, serve: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", serve(say()).url)
    assert place.fetch("http://nowhere.invalid/file") == CONTENT


def write_project(project: Path, **files: dict[str, Any]) -> Path:
    update(project, merge(TINY, {"download": files}))
    return project


def test_two_processes_at_once_get_the_file_both(tmp_path: Path, serve: Server) -> None:
    """The first holds the partial file until the server goes on; the second waits for the first."""
    going, log = threading.Event(), tmp_path / "log"

    def slow(request: Handler) -> None:
        going.wait(50)
        say()(request)

    project = write_project(
        tmp_path / "project", file={"url": serve(slow).url, "checksum": SHA256, "path": "data/x/file"}
    )
    command = [sys.executable, "-m", "stages", "download", "file"]
    with log.open("w") as out:
        both = [subprocess.Popen(command, cwd=project, env=environment(), stdout=out) for _ in range(2)]
    until = time.monotonic() + 45
    while "waiting for another process" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    going.set()
    assert [process.wait() for process in both] == [0, 0]
    assert log.read_text() == "note: download.file: waiting for another process that makes it\n"
    assert (project / "data" / "x" / "file").read_bytes() == CONTENT
    assert [path.name for path in (project / "data" / "x").iterdir()] == ["file"]


def test_one_failed_file_leaves_the_others_and_a_wrong_one_leaves_nothing(tmp_path: Path, run: Run) -> None:
    """Under DVC: what arrived is not fetched again."""
    (tmp_path / "source").write_bytes(CONTENT)
    source = str(tmp_path / "source")
    good = {"url": ["nowhere", source], "checksum": SHA256, "path": "data/x/good"}
    bad = {"url": [source], "checksum": "md5:" + "0" * 32, "path": "data/x/bad"}
    project = write_project(tmp_path / "project", bad=bad, good=good)
    result = run(project, "dvc", "repro", "--keep-going", "download")
    assert result.returncode != 0
    assert f"error: download.bad.url: {source}: damaged, or another file: {SIZE:,} bytes" in result.stdout
    assert [path.name for path in (project / "data" / "x").iterdir() if path.name != ".gitignore"] == ["good"]
    assert "Stage 'download@good' didn't change" in run(project, "dvc", "repro", "--keep-going", "download").stdout


def test_without_a_network_every_file_is_named_and_those_brought_by_hand_are_taken(tmp_path: Path, run: Run) -> None:
    files = {
        name: {"url": f"https://nowhere.invalid/{name}", "checksum": SHA256, "path": f"data/x/{name}"}
        for name in ("one", "two")
    }
    project = write_project(tmp_path / "project", **files)
    result = run(project, "stages", "download", "one")
    assert result.returncode == 1
    assert result.stdout.count("\n") == 1
    assert (
        "Without a network, bring https://nowhere.invalid/one as x/one, https://nowhere.invalid/two as x/two "
        f"into {project}/downloads; or try make demo" in result.stdout
    )
    (project / "downloads" / "x" / "one").write_bytes(CONTENT)
    assert run(project, "stages", "download", "one").returncode == 0
    assert (project / "data" / "x" / "one").read_bytes() == CONTENT


def test_defaults_are_the_official_files_first_with_full_checksums() -> None:
    download = load_params(PROJECT / "params.yaml").download
    for name, host in {
        "archive": "robots.ox",
        "labels": "robots.ox",
        "splits": "robots.ox",
        "backbone": "pytorch",
    }.items():
        sources = download[name].sources
        assert host in sources[0][0]
        assert len(sources) == 2
        for url, checksum in sources:
            assert url.startswith("https://")
            assert len(checksum) == len(SHA256)
