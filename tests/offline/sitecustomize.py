"""No Python process of the tests reaches another machine.

Python imports this file when it starts, because its folder is in PYTHONPATH.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Any

LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "", None)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what leads away from this machine, and write down that it was tried."""
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        # Anything but a tuple is a socket in the file system.
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host in LOCAL:
        return
    # Tests of downloads ask for .invalid, which no machine is called (RFC 2606).
    if not str(host).endswith(".invalid"):
        with Path(os.environ["CONNECTIONS"]).open("a") as file:
            file.write(f"{host}: {' '.join(sys.argv)}\n")
    raise OSError(errno.ENETUNREACH, f"the tests are offline, but {host} was asked for")


if "CONNECTIONS" in os.environ:
    sys.addaudithook(refuse)
