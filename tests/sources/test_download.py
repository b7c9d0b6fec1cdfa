"""Files come from servers and paths, whole and with the right checksum, or not at all."""

import hashlib
import http.server
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.params import File, Params, load_params
from pipeline.sources.download import RETRY, UnreachableError, fetch
from stages import download
from tests.conftest import Run
from tools.sandbox import PROJECT, update

CONTENT = bytes(range(256)) * 5000
SIZE = len(CONTENT)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
FAST_RETRY = RETRY.new(backoff_factor=0.01, backoff_jitter=0.01, retry_after_max=0.2)
FAST_TIMEOUT = (0.5, 0.5)
Answer = Callable[["Handler"], None]


class Server(http.server.ThreadingHTTPServer):
    """A server on loopback that answers its requests by ``answers``, in order; the last one stays.

    Attributes:
        requests: the headers of all requests so far.
        closing: set at the end of the test.
    """

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.requests: list[dict[str, str]] = []
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers))
        number = min(len(self.server.requests), len(self.server.answers))
        self.server.answers[number - 1](self)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def say(status: int = 200, body: bytes = CONTENT, length: int = -1, **headers: str) -> Answer:
    """An answer that promises ``length`` bytes (by default all of them) and then sends ``body``."""

    def answer(request: Handler) -> None:
        promised = len(body) if length < 0 else length
        request.send_response(status)
        for name, value in {"Content-Length": str(promised), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        with suppress(ConnectionError):  # the client may close the connection
            request.wfile.write(body)

    return answer


def range_start(request: Handler) -> int:
    return int(request.headers.get("Range", "bytes=0-")[6:-1])


def partial_content(start: int, body: bytes) -> Answer:
    """An answer that says it is the part of the file from byte ``start`` on."""
    return say(206, body, Content_Range=f"bytes {start}-{SIZE - 1}/{SIZE}", ETag='"1"')


def break_off(size: int, tag: str = '"1"') -> Answer:
    """An answer that ends after ``size`` bytes."""
    return say(body=CONTENT[:size], length=SIZE, ETag=tag)


def resume(request: Handler) -> None:
    """What a Range asks for if If-Range has the right tag, otherwise everything."""
    start = range_start(request)
    if start and request.headers.get("If-Range") == '"1"':
        partial_content(start, CONTENT[start:])(request)
    else:
        say(ETag='"1"')(request)


def damage(request: Handler) -> None:
    """Breaks off near the end, and sends wrong bytes when asked for the rest."""
    start = range_start(request)
    answer = partial_content(start, bytes(SIZE - start)) if start else break_off(1_200_000)
    answer(request)


def stall(request: Handler) -> None:
    """Sends some bytes and then none."""
    break_off(1000)(request)
    request.wfile.flush()
    request.server.closing.wait(2)


def trickle(request: Handler) -> None:
    """Sends a byte now and then, so that the connection never times out."""
    break_off(1000)(request)
    with suppress(ConnectionError):
        for place in range(1000, 1100):
            request.wfile.write(CONTENT[place : place + 1])
            request.wfile.flush()
            if request.server.closing.wait(0.05):
                break


def send_forever(request: Handler) -> None:
    request.send_response(200)
    request.end_headers()
    with suppress(ConnectionError):
        while True:
            request.wfile.write(CONTENT)


def hang_up(request: Handler) -> None:
    """Ends the connection without an answer."""


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, which end with the test."""
    servers = []

    def start(*answers: Answer) -> Server:
        servers.append(Server(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


class Target:
    """Where a file is to be downloaded to, and what was noted meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "file"
        self.partial = folder / "downloads" / "file.part"
        self.notes: list[str] = []

    def fetch(self, *urls: str, checksum: str = SHA256) -> bytes:
        return self.fetch_sources(*((url, checksum) for url in urls))

    def fetch_sources(self, *sources: tuple[str, str]) -> bytes:
        fetch(
            sources,
            self.file,
            self.partial,
            "download.x",
            self.notes.append,
            FAST_RETRY,
            FAST_TIMEOUT,
        )
        return self.file.read_bytes()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def test_paths_and_file_urls_are_copied(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a folder" / "file 1"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    for url in (str(source), "a folder/file 1", source.as_uri()):
        assert target.fetch(url) == CONTENT
    assert not target.notes


@pytest.mark.parametrize("checksum", [MD5, SHA256[: len("sha256:") + 8]])
def test_a_weaker_checksum_is_enough_but_the_full_one_is_suggested(
    target: Target, tmp_path: Path, checksum: str
) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    assert target.fetch(str(tmp_path / "source"), checksum=checksum) == CONTENT
    assert target.notes == [
        f"download.x.checksum = {checksum} fits other files too; the full one is {SHA256}"
    ]


OTHER_PART = partial_content(500, CONTENT[500:])
WRONG_BYTES = partial_content(1000, CONTENT[500:-500])


@pytest.mark.parametrize(
    "answers",
    [
        [say()],
        [say(500), say(503), resume],
        [say(429, Retry_After="86400"), resume],
        [hang_up, resume],
        [stall, resume],
        [break_off(1000), break_off(70_000), resume],
        [break_off(1000, tag=""), say()],  # no tag to resume by: from the start
        [break_off(1000), OTHER_PART, resume],
        [break_off(1000), WRONG_BYTES, resume],
        [break_off(1000), say(416, b"", Content_Range="bytes */500"), resume],
        [break_off(1000), say(ETag='"1"')],  # ignores the range
        [say(302, b"", Location="/elsewhere"), say()],
    ],
)
def test_what_another_request_can_fix_is_fixed(
    target: Target, serve: Serve, answers: list[Answer]
) -> None:
    server = serve(*answers)
    assert target.fetch(server.url) == CONTENT
    assert len(server.requests) == len(answers)
    assert not target.partial.exists()
    assert {path.suffix for path in target.partial.parent.iterdir()} <= {".lock"}


def test_a_server_that_is_too_slow_is_not_waited_for(target: Target, serve: Serve) -> None:
    assert target.fetch(serve(trickle, resume).url) == CONTENT
    arrived = re.search("broke off after ([0-9,]+) bytes", target.notes[0])
    assert arrived
    assert 1000 < int(arrived[1].replace(",", "")) < 1090  # it would have sent 1,100


def test_a_later_run_continues_where_the_last_one_ended(target: Target, serve: Serve) -> None:
    server = serve(break_off(500_000), say(404), resume)
    with pytest.raises(UserError, match=r"404 Not Found"):
        target.fetch(server.url)
    assert target.partial.stat().st_size > 400_000
    assert target.fetch(server.url) == CONTENT
    assert server.requests[-1]["If-Range"] == '"1"'
    assert int(server.requests[-1]["Range"][6:-1]) > 400_000


def test_a_file_that_changed_meanwhile_is_started_again(target: Target, serve: Serve) -> None:
    server = serve(break_off(1000, tag='"0"'), say(404), resume)
    with pytest.raises(UserError):
        target.fetch(server.url)
    assert target.fetch(server.url) == CONTENT
    assert server.requests[-1]["Range"] == "bytes=1000-"
    assert server.requests[-1]["If-Range"] == '"0"'


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (say(404), "the server answers 404 Not Found"),
        (say(500), "the server answers 500 Internal Server Error"),
        (
            break_off(1000, tag=""),
            r"broke off after 1,000 bytes: .*1000 bytes read, 1279000 more expected",
        ),
        (
            say(length=1000),
            r"damaged, or another file: 1,000 bytes with sha256:\w+, not sha256:",
        ),
        (say(body=b"\n<!DOCTYPE html>"), "a web page, or another file: 16 bytes"),
        (
            say(body=b"<html>", Content_Type="text/html; charset=utf-8"),
            "a web page instead of the file",
        ),
        (say(302, b"", Location="/file"), "Exceeded 10 redirects"),
        (
            say(302, b"", Location="file:///etc/hostname"),
            "No connection adapters were found for 'file:",
        ),
        (say(body=CONTENT[:-1] + b"x"), f"another file: {SIZE:,} bytes"),
        (damage, r"broke off after 1,200,000 bytes"),
    ],
)
def test_a_bad_source_gives_no_file_and_the_next_one_is_asked(
    target: Target, serve: Serve, answer: Answer, message: str
) -> None:
    bad = serve(answer)
    good = serve(say())
    with pytest.raises(UserError, match=rf"^download\.x\.url: {bad.url}: .*{message}") as error:
        target.fetch(bad.url)
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, UnreachableError)
    assert not target.file.exists()
    assert target.fetch(bad.url, good.url) == CONTENT


def test_an_answer_without_end_leaves_space_on_the_disk(
    target: Target, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = shutil.disk_usage(tmp_path).free - (5 << 20)
    monkeypatch.setattr("pipeline.sources.download.SPARE", spare)
    with pytest.raises(UserError, match=r"only [\d,]+ bytes of disk are left, after [\d,]+ bytes"):
        target.fetch(serve(send_forever).url)
    assert target.partial.stat().st_size == 0


def test_it_is_told_apart_that_no_server_answers(target: Target, serve: Serve) -> None:
    gone = serve()
    gone.stop()
    with pytest.raises(UnreachableError, match=r"Connection refused.*nowhere\.invalid"):
        target.fetch(gone.url, "https://nowhere.invalid/file")


def test_sources_may_have_checksums_of_their_own(target: Target, serve: Serve) -> None:
    other = b"the same weights in another format"
    checksum = "sha256:" + hashlib.sha256(other).hexdigest()
    missing = serve(say(404))
    server = serve(say(body=other))
    assert target.fetch_sources((missing.url, SHA256), (server.url, checksum)) == other


@pytest.mark.parametrize("checksum", [MD5, SHA256[:-1]])
def test_plain_http_needs_a_full_sha256(target: Target, serve: Serve, checksum: str) -> None:
    server = serve(say())
    with pytest.raises(UserError, match=r"plain http .* is trusted only with a full sha256"):
        target.fetch(server.url, checksum=checksum)
    assert not target.partial.exists()


def test_proxies_of_the_environment_are_used(
    target: Target, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", serve(say()).url)
    assert target.fetch("http://nowhere.invalid/file") == CONTENT


def test_two_downloads_of_one_file_take_turns(tmp_path: Path, serve: Serve) -> None:
    """The first holds the partial file until the second says that it waits."""
    targets = [Target(tmp_path / "1"), Target(tmp_path / "2")]
    for target in targets:
        target.file.parent.mkdir()
        target.partial = tmp_path / "file.part"

    def answer_late(request: Handler) -> None:
        until = time.monotonic() + 20
        while not any(target.notes for target in targets) and time.monotonic() < until:
            time.sleep(0.01)
        say()(request)

    url = serve(answer_late).url
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(lambda target: target.fetch(url), targets))
    assert contents == [CONTENT, CONTENT]
    notes = [note for target in targets for note in target.notes]
    assert notes == ["download.x: waiting for another process that writes it"]


def files_from(url: str, *names: str) -> dict[str, File]:
    return {
        name: File(url=f"{url}/{name}", checksum=SHA256, path=f"data/x/{name}") for name in names
    }


def test_without_a_network_every_file_is_named_and_brought_files_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = files_from("https://nowhere.invalid", "one", "two")
    params = Params.model_construct(download=files)
    with pytest.raises(UserError) as error:
        download.main(params, "one")
    assert str(error.value).endswith(
        "Without a network, bring https://nowhere.invalid/one as x/one, "
        f"https://nowhere.invalid/two as x/two into {tmp_path}/downloads; or try make demo, which "
        "needs none"
    )
    assert not (tmp_path / "data" / "x" / "one").exists()

    (tmp_path / "downloads" / "x" / "one").write_bytes(CONTENT)
    download.main(params, "one")
    assert (tmp_path / "data" / "x" / "one").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "data" / "x").iterdir()] == ["one"]

    # An experiment in a copy that DVC makes takes the clone's.
    experiment = tmp_path / ".dvc" / "tmp" / "exps" / "temporary"
    experiment.mkdir(parents=True)
    monkeypatch.chdir(experiment)
    download.main(params, "one")
    assert (experiment / "data" / "x" / "one").read_bytes() == CONTENT
    assert not (experiment / "downloads").exists()


@pytest.mark.pipeline
def test_one_bad_file_leaves_the_others_and_nothing_of_itself(tmp_path: Path, run: Run) -> None:
    """Under DVC, which does not download again what has arrived."""
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    good = {"url": ["nowhere", str(source)], "checksum": SHA256, "path": "data/x/good"}
    bad = {"url": [str(source)], "checksum": "md5:" + "0" * 32, "path": "data/x/bad"}
    no_other = dict.fromkeys(load_params(PROJECT / "params.yaml").download)
    project = tmp_path / "project"
    update(project, {"download": {**no_other, "bad": bad, "good": good}})

    result = run(project, "dvc", "repro", "--keep-going", "download")
    assert result.returncode != 0
    assert f"error: download.bad.url: {source}: damaged, or another file: {SIZE:,} bytes" in (
        result.stdout
    )
    arrived = {path.name for path in (project / "data" / "x").iterdir()}
    assert arrived - {".gitignore"} == {"good"}
    again = run(project, "dvc", "repro", "--keep-going", "download")
    assert "Stage 'download@good' didn't change" in again.stdout


def test_the_official_files_come_first_and_have_full_checksums() -> None:
    files = load_params(PROJECT / "params.yaml").download
    hosts = {
        "archive": "robots.ox",
        "labels": "robots.ox",
        "splits": "robots.ox",
        "backbone": "pytorch",
    }
    for name, host in hosts.items():
        sources = files[name].sources
        assert host in sources[0][0]
        assert len(sources) == 2
        for url, checksum in sources:
            assert url.startswith("https://")
            assert len(checksum) == len(SHA256)
