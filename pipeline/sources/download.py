"""Download one file from the first of its sources that has it, and verify its checksum."""

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
from pipeline.base.files import file_lock, hex_digest
from pipeline.base.progress import progress

# Some hosts refuse the user agents of programs. The bytes must not be compressed on the way.
HEADERS = {"User-Agent": "Mozilla/5.0", "Accept-Encoding": "identity"}
CHUNK = 1 << 16  # bytes read at a time
SPARE = 1 << 29  # bytes of disk to leave free
TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two bytes
SLOWEST = 1000  # bytes a second, over the second of these times
PROGRESS = 1 << 20  # bytes after which a connection that breaks counts as one that works


class _Retry(Retry):
    """urllib3's policy of retries, which also says that it waits because of a server's answer."""

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        if response is not None:
            seconds = self.get_retry_after(response) or self.get_backoff_time()
            if seconds > 1:
                print(
                    f"the server answered {response.status}; trying again in {seconds:.0f} s",
                    flush=True,
                )
        super().sleep(response)


# For one source: wait 0, 2, 4, 8, 16 s and up to 1 s more at random, or as long as Retry-After
# says, up to a minute.
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


@dataclass(frozen=True)
class _Fault:
    """Why a source did not give the file."""

    url: str
    error: Exception


def fetch(
    sources: Sequence[tuple[str, str]],
    destination: Path,
    partial: Path,
    key: str,
    note: Callable[[str], None],
    retry: Retry = RETRY,
    timeout: tuple[float, float] = TIMEOUT,
) -> None:
    """Download a file from the first of ``sources`` that gives the right bytes.

    If a server breaks off or the process ends, what has arrived stays in ``partial``, and the next
    call continues there if the server says that its file is still the same (RFC 9110: Range,
    If-Range). Proxies and certificates are those of the environment (HTTPS_PROXY, NO_PROXY,
    REQUESTS_CA_BUNDLE, SSL_CERT_FILE).

    Args:
        sources: URL (``https://…``, ``http://…``, ``file://…`` or a path) and checksum of each:
            ``sha256:`` and 64 hex digits; or weaker, at least the first 8 of them, or ``md5:`` and
            32. Plain http needs all 64.
        destination: the file to write. Give a temporary path: a bad file is left there.
        partial: where a download grows; one process at a time uses it, another waits.
        key: the params key of the file, for messages.
        note: takes one line about anything unexpected.
        retry, timeout: when and how often to try again; seconds to connect, and between two bytes.

    Raises:
        UnreachableError: no server answered.
        UserError: no source has the file.
    """
    faults: list[_Fault] = []
    with file_lock(partial, key, note), _session(retry) as session:
        for url, checksum in sources:
            try:
                if _is_remote(url):
                    download = _Download(url, checksum, partial, session, timeout, key, note)
                    download.run(retry)
                    shutil.move(partial, destination)
                else:
                    shutil.copyfile(_local_path(url), destination)
                    _check(destination, checksum)
            except (OSError, ValueError, HTTPError, _RefusedError) as error:
                faults.append(_Fault(url, error))  # errors of requests are OSErrors
                continue
            if not _is_full(checksum):
                note(
                    f"{key}.checksum = {checksum} fits other files too; the full one is "
                    f"sha256:{hex_digest(destination, 'sha256')}"
                )
            return
    reasons = "; ".join(f"{fault.url}: {_reason(fault.error)}" for fault in faults)
    remote = [fault.error for fault in faults if _is_remote(fault.url)]
    is_unreachable = bool(remote) and all(_is_silence(error) for error in remote)
    raise (UnreachableError if is_unreachable else UserError)(f"{key}.url: {reasons}")


def _session(retry: Retry) -> requests.Session:
    session = requests.Session()
    session.headers.update(HEADERS)
    session.verify = os.environ.get("SSL_CERT_FILE", True)
    session.max_redirects = 10
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


@dataclass(frozen=True)
class _Download:
    """A file of a server, and the partial file in which it grows; see :func:`fetch`."""

    url: str
    checksum: str
    partial: Path
    session: requests.Session
    timeout: tuple[float, float]
    key: str
    note: Callable[[str], None]

    def run(self, retry: Retry) -> None:
        """Complete the partial file, over as many connections as it takes, and verify it.

        Raises:
            requests.RequestException, _RefusedError: the source is given up.
        """
        tries = retry
        may_resume = True
        while True:
            before = self._size()
            try:
                self._receive(may_resume)
                return
            except HTTPError as error:
                # If the parts did not fit together, the next try takes the file in one piece.
                may_resume = may_resume and self.partial.exists()
                if self._size() > before + PROGRESS:
                    tries = retry  # a connection that breaks often, but works
                try:
                    tries = tries.increment("GET", self.url, error=error)
                except HTTPError:  # that was the last try
                    raise _RefusedError(
                        f"broke off after {self._size():,} bytes: {_reason(error)}"
                    ) from None
                self.note(
                    f"{self.key}: {self.url} broke off after {self._size():,} bytes; trying again"
                )
                tries.sleep()

    def _receive(self, may_resume: bool) -> None:
        """Append the server's answer to the partial file if it continues it, else start again.

        Raises:
            HTTPError: the answer broke off or does not fit; another try may succeed.
            requests.RequestException, _RefusedError: another try would not.
        """
        known = self._version.read_text("utf-8") if may_resume and self._version.exists() else ""
        start = self._size() if known else 0
        headers = {"Range": f"bytes={start}-", "If-Range": known} if start else {}
        request = self.session.get(self.url, headers=headers, stream=True, timeout=self.timeout)
        with request as response:
            self._check_answer(response)
            if response.status_code == 200:
                start = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                self.partial.unlink(missing_ok=True)
                raise ProtocolError("the server sends another part than asked for")
            self._write(response, start)
        try:
            _check(self.partial, self.checksum)
        except _RefusedError as error:
            self.partial.unlink()
            if start:
                raise ProtocolError(str(error)) from None
            raise
        self._version.unlink()

    def _check_answer(self, response: requests.Response) -> None:
        """Refuse an answer that cannot be the file, or that anybody could have changed."""
        for step in (*response.history, response):
            if not step.url.startswith("https://") and not _is_full(self.checksum):
                raise _RefusedError(
                    f"plain http ({step.url}) is trusted only with a full sha256 as checksum"
                )
        if response.status_code not in (200, 206, 416):
            raise _RefusedError(f"the server answers {response.status_code} {response.reason}")
        if "text/html" in response.headers.get("Content-Type", ""):
            raise _RefusedError("a web page instead of the file")

    def _write(self, response: requests.Response, start: int) -> None:
        """Write what the server sends to the partial file, from byte ``start`` on."""
        remaining = response.raw.length_remaining  # None: the server does not say
        with self.partial.open("ab" if start else "wb") as file:
            if not start:
                self._version.write_text(_version_of(response), "utf-8")
            chunks = progress(
                self._chunks(response.raw),
                total=start + remaining if remaining else 0,
                what=self.key,
                unit="B",
                count=len,
                before=start,
            )
            for chunk in chunks:
                file.write(chunk)
                if shutil.disk_usage(self.partial.parent).free < SPARE:
                    size = file.tell()
                    if remaining is None:  # it may never end
                        file.truncate(0)
                    raise _RefusedError(
                        f"only {SPARE:,} bytes of disk are left, after {size:,} bytes"
                    )

    def _chunks(self, answer: BaseHTTPResponse) -> Iterator[bytes]:
        """What arrives, as it arrives; a server that is too slow counts as one that broke off."""
        start = time.monotonic()
        size = 0
        while chunk := answer.read1(CHUNK, decode_content=False):
            yield chunk
            size += len(chunk)
            seconds = time.monotonic() - start
            if seconds > self.timeout[1]:
                if size < SLOWEST * seconds:
                    raise ProtocolError(f"slower than {SLOWEST:,} bytes a second")
                start = time.monotonic()
                size = 0

    @property
    def _version(self) -> Path:
        """A file with the mark by which the server knows the version that is partly here."""
        return Path(f"{self.partial}.version")

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0


def _version_of(response: requests.Response) -> str:
    """A mark of the file's version for If-Range; empty if the server gives none that is strong."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified", "")


def _is_remote(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _local_path(url: str) -> str:
    """The path of a file:// URL, or the path itself."""
    return url2pathname(urlsplit(url).path) if "://" in url else url


def _is_silence(error: Exception) -> bool:
    """Whether no server answered (a wrong certificate is an answer)."""
    is_answer = isinstance(error, requests.exceptions.SSLError)
    return isinstance(error, requests.ConnectionError) and not is_answer


def _check(file: Path, checksum: str) -> None:
    """Refuse a file with another checksum."""
    algorithm, expected = checksum.split(":")
    digest = hex_digest(file, algorithm)
    if digest.startswith(expected):
        return
    with file.open("rb") as content:
        beginning = content.read(512).lstrip().lower()
    is_page = beginning.startswith((b"<!doctype", b"<html"))
    raise _RefusedError(
        f"{'a web page' if is_page else 'damaged'}, or another file: {file.stat().st_size:,} bytes "
        f"with {algorithm}:{digest}, not {checksum}"
    )


def _is_full(checksum: str) -> bool:
    """Whether nobody can make another file with this checksum."""
    return checksum.startswith("sha256:") and len(checksum) == len("sha256:") + 64


def _reason(error: Exception) -> str:
    """The innermost cause on one line: requests wraps urllib3's errors, which wrap the system's."""
    cause: object = error
    if isinstance(error, requests.RequestException) and error.args:
        cause = error.args[0]
    text = " ".join(str(getattr(cause, "reason", None) or cause).split())
    return re.sub(r"^HTTPS?Connection\(.*?\): ", "", text)
