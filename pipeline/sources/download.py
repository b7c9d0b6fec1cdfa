"""Bring one file here, from the first of its sources that has it, and believe it only if its checksum fits."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.util import Retry

from pipeline.base.errors import UserError
from pipeline.base.files import alone, hex_digest
from pipeline.base.progress import progress

# Some hosts refuse the user agents of programs. Bytes are wanted as they are, not compressed on the way.
HEADERS = {"User-Agent": "Mozilla/5.0", "Accept-Encoding": "identity"}
SPARE = 1 << 29  # bytes to leave on the disk
TIMEOUT = (10.0, 60.0)  # seconds without a connection, or without a byte, or at a rate below
SLOWEST = 1000  # bytes a second


class _Retry(Retry):
    """urllib3's, which says that it waits, where a server's answer made it wait."""

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        seconds = (response and self.get_retry_after(response)) or self.get_backoff_time()
        if response is not None and seconds > 1:
            print(f"the server answered {response.status}; trying again in {seconds:.0f} s", flush=True)
        super().sleep(response)


# Of one source: waits 0, 2, 4, 8, 16 s and up to 1 s more at random, or as long as Retry-After says, but not for ever.
RETRY = _Retry(
    total=5,
    connect=1,
    other=0,
    status_forcelist=(408, 429, *range(500, 600)),
    raise_on_status=False,
    backoff_factor=1,
    backoff_jitter=1,
    retry_after_max=60,
)


class UnreachableError(UserError):
    """No server answered."""


class _RefusedError(Exception):
    """Why a source is given up."""


def fetch(
    sources: Sequence[tuple[str, str]],
    destination: Path,
    partial: Path,
    key: str,
    note: Callable[[str], None],
    retry: Retry = RETRY,
    timeout: tuple[float, float] = TIMEOUT,
) -> None:
    """Bring a file from the first of ``sources`` that gives the right bytes.

    What has arrived of it stays in ``partial`` when the source breaks off or the process ends; the next call goes on
    from there, where the server says that its file is still the same (RFC 9110: Range, If-Range). Proxies and
    certificates are those of the environment (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE, SSL_CERT_FILE).

    Args:
        sources: URL (``https://…``, ``http://…``, ``file://…`` or a path) and checksum of each: ``sha256:`` and 64 hex
            digits, or weaker: at least the first 8, or ``md5:`` and 32. Plain http needs all 64.
        destination: the file to write (give a temporary path: a bad file is left for the caller to drop).
        partial: where a download grows; one process at a time uses it, another waits.
        key: the params key that holds the sources, for messages.
        note: takes a line about what is not as one would expect.
        retry, timeout: when and how often to try again; seconds to connect, and between two bytes.

    Raises:
        UnreachableError: no server answered.
        UserError: no source has the file.
    """
    faults: list[tuple[str, Exception]] = []
    with alone(partial, key, note), requests.Session() as session:
        session.headers.update(HEADERS)
        session.verify = os.environ.get("SSL_CERT_FILE", True)
        session.max_redirects = 10
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        for url, checksum in sources:
            try:
                if _is_remote(url):
                    _Download(url, checksum, partial, session, timeout, key, note).run(retry)
                    shutil.move(partial, destination)
                else:
                    shutil.copyfile(url2pathname(urlsplit(url).path) if "://" in url else url, destination)
                    _check(destination, checksum)
            except (OSError, ValueError, HTTPError, _RefusedError) as error:  # requests' errors are OSErrors
                faults.append((url, error))
                continue
            if not _is_full(checksum):
                digest = hex_digest(destination, "sha256")
                note(f"{key}.checksum = {checksum} fits other files too; the full one is sha256:{digest}")
            return
    answers = [error for url, error in faults if _is_remote(url)]
    silent = answers and all(
        isinstance(error, requests.ConnectionError) and not isinstance(error, requests.exceptions.SSLError)
        for error in answers
    )
    reasons = "; ".join(f"{url}: {_reason(error)}" for url, error in faults)
    raise (UnreachableError if silent else UserError)(f"{key}.url: {reasons}")


@dataclass(frozen=True)
class _Download:
    """A file of a server, and where it grows."""

    url: str
    checksum: str
    partial: Path
    session: requests.Session
    timeout: tuple[float, float]
    key: str
    note: Callable[[str], None]

    def run(self, retry: Retry) -> None:
        """Bring the file here over as many connections as it takes, and check it."""
        tries, resume = retry, True
        while True:
            before = self._size()
            try:
                return self._receive(resume)
            except HTTPError as error:
                resume = resume and self.partial.exists()  # what was dropped did not fit together: now in one piece
                tries = retry if self._size() > before + (1 << 20) else tries  # a link that breaks often, but works
                try:
                    tries = tries.increment("GET", self.url, error=error)
                except HTTPError:
                    raise _RefusedError(f"broke off after {self._size():,} bytes: {_reason(error)}") from None
                self.note(f"{self.key}: {self.url} broke off after {self._size():,} bytes; trying again")
                tries.sleep()

    def _receive(self, resume: bool) -> None:
        """Append an answer of the server to the partial file if it is what was asked for, else begin anew with it.

        Raises:
            HTTPError: it broke off, or does not fit what was there; worth another try.
            requests.RequestException, _RefusedError: not worth one.
        """
        version = Path(f"{self.partial}.version")  # how the server marks what the partial file is a part of
        known = version.read_text(encoding="utf-8") if resume and version.exists() else ""
        start = self._size() if known else 0
        headers = {"Range": f"bytes={start}-", "If-Range": known} if start else {}
        with self.session.get(self.url, headers=headers, stream=True, timeout=self.timeout) as response:
            for step in (*response.history, response):
                if not step.url.startswith("https://") and not _is_full(self.checksum):
                    raise _RefusedError(f"plain http ({step.url}) is believed only with a full sha256 as checksum")
            if response.status_code not in (200, 206, 416):
                raise _RefusedError(f"the server answers {response.status_code} {response.reason}")
            if "text/html" in response.headers.get("Content-Type", ""):
                raise _RefusedError("a web page in place of the file")
            if response.status_code == 200:
                start = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                self.partial.unlink(missing_ok=True)
                raise ProtocolError("the server sends another part than asked for")
            with self.partial.open("ab" if start else "wb") as file:
                if not start:
                    mark = response.headers.get("ETag", "W/")
                    mark = response.headers.get("Last-Modified", "") if mark.startswith("W/") else mark
                    version.write_text(mark, encoding="utf-8")
                rest = response.raw.length_remaining
                for chunk in progress(
                    self._chunks(response.raw), start + rest if rest else 0, self.key, "B", len, start
                ):
                    file.write(chunk)
                    if shutil.disk_usage(self.partial.parent).free < SPARE:
                        if rest is None:  # it may never end
                            file.truncate(0)
                        raise _RefusedError(f"only {SPARE:,} bytes of disk are left, after {file.tell():,} bytes")
        try:
            _check(self.partial, self.checksum)
        except _RefusedError as error:
            self.partial.unlink()
            if start:
                raise ProtocolError(str(error)) from None
            raise
        version.unlink()

    def _chunks(self, answer: BaseHTTPResponse) -> Iterator[bytes]:
        """What arrives, as it arrives; a server that trickles is one that broke off."""
        began, size = time.monotonic(), 0
        while chunk := answer.read1(1 << 16, decode_content=False):
            yield chunk
            size += len(chunk)
            if (took := time.monotonic() - began) > self.timeout[1]:
                if size < SLOWEST * took:
                    raise ProtocolError(f"slower than {SLOWEST:,} bytes a second")
                began, size = time.monotonic(), 0

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0


def _is_remote(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _check(file: Path, checksum: str) -> None:
    algorithm, expected = checksum.split(":")
    digest = hex_digest(file, algorithm)
    if not digest.startswith(expected):
        with file.open("rb") as content:
            page = content.read(512).lstrip().lower().startswith((b"<!doctype", b"<html"))
        what = "a web page, or" if page else "damaged, or"
        raise _RefusedError(
            f"{what} another file: {file.stat().st_size:,} bytes with {algorithm}:{digest}, not {checksum}"
        )


def _is_full(checksum: str) -> bool:
    """Can nobody make another file with it?"""
    return checksum.startswith("sha256:") and len(checksum) == len("sha256:") + 64


def _reason(error: Exception) -> str:
    """The innermost cause, on one line: requests wraps urllib3's errors, which wrap the system's."""
    cause = error.args[0] if isinstance(error, requests.RequestException) and error.args else error
    text = " ".join(str(getattr(cause, "reason", None) or cause).split())
    return re.sub(r"^HTTPS?Connection\(.*?\): ", "", text)
