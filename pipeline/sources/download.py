"""Bring one file here, from a URL or a path, and believe it only if its checksum fits."""

from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from tqdm import tqdm

from pipeline.base.errors import UserError
from pipeline.base.files import hex_digest


def fetch(url: str, checksum: str, destination: Path, key: str) -> None:
    """Copy ``url`` to ``destination`` and check it (give a temporary path: a bad file is left for the caller to drop).

    Args:
        url: ``http(s)://…``, ``file://…`` or a path.
        checksum: ``md5:`` and 32 hex digits, or ``sha256:`` and at least the first 8 (as in the names of
            torchvision's weights).
        destination: the file to write.
        key: the params key that holds the URL, for messages.

    Raises:
        UserError: not reachable, not found, cut short, or another checksum.
    """
    address = url if "://" in url else Path(url).resolve().as_uri()
    try:
        # Some hosts refuse Python's own user agent.
        with urlopen(Request(address, headers={"User-Agent": "Mozilla/5.0"}), timeout=60) as response:
            size = int(response.headers.get("Content-Length") or 0)
            bar = tqdm(total=size or None, unit="B", unit_scale=True, desc=key, disable=None)
            with bar, destination.open("wb") as file:
                while chunk := response.read(1 << 20):
                    file.write(chunk)
                    bar.update(len(chunk))
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{key}.url = {url}: {reason}. Check the address and the network, or fetch the file by any other "
            f"means and set {key}.url to its path"
        ) from None
    received = destination.stat().st_size
    if size and received != size:
        raise UserError(f"{key}.url = {url}: cut short, {received:,} of {size:,} bytes arrived; run it again")
    algorithm, expected = checksum.split(":")
    digest = hex_digest(destination, algorithm)
    if not digest.startswith(expected):
        raise UserError(
            f"{key}.url = {url}: its {received:,} bytes have {algorithm}:{digest}, but {key}.checksum = {checksum}. "
            "A damaged file, or a web page in its place: try again; if you mean this very file, change the checksum"
        )
