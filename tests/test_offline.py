"""Nothing but package installation needs a network: no test, nor what it starts, may use one."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ATTEMPTS = {
    "192.0.2.1": "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)",
    "192.0.2.2": "import socket; s = socket.socket(type=socket.SOCK_DGRAM); "
    "s.sendto(b'', ('192.0.2.2', 53))",
    "example.org": "import urllib.request; urllib.request.urlopen('https://example.org')",
}


def test_no_process_of_the_tests_reaches_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS", str(tmp_path / "connections"))
    for host, code in ATTEMPTS.items():
        result = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        assert f"the tests are offline, but {host} was asked for" in result.stderr
    noted = (tmp_path / "connections").read_text().splitlines()
    assert [line.split(":")[0] for line in noted] == list(ATTEMPTS)
    with pytest.raises(OSError, match=r"the tests are offline, but 192\.0\.2\.3 was asked for"):
        socket.create_connection(("192.0.2.3", 80), timeout=1)
