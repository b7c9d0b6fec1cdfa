"""Programs that tools run: in whose name, and what ends them."""

import getpass
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from tools.commands import environment, output, tidy_environment
from tools.sandbox import PROJECT


def test_a_program_that_is_not_installed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no-such-program: no such program; install it$"):
        output(tmp_path, "no-such-program")


def test_a_user_without_name_and_home_gets_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    tidy_environment()
    assert environment()["USER"] == getpass.getuser() == f"user-{os.getuid()}"
    assert not Path.home().exists()  # and no folder ~ is made


# Ends.

# A tool that starts a program, which prints its number, sleeps, and says so.
TOOL = """
import sys
from pipeline.base.errors import for_people
from tools.commands import run
from tools.sandbox import PROJECT
program = "import os, time; print(os.getpid(), flush=True); time.sleep({seconds}); print('slept')"
with for_people():
    run(PROJECT, sys.executable, "-c", program)
"""


def in_background() -> None:
    """As a shell's `&` in a script: what it starts ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("start", [None, in_background])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_tool_ends_what_it_started(
    number: signal.Signals, start: Callable[[], None] | None
) -> None:
    tool = subprocess.Popen(
        [sys.executable, "-c", TOOL.format(seconds=99)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=start,
    )
    assert tool.stdout is not None
    started = int(tool.stdout.readline())
    tool.send_signal(number)
    _, errors = tool.communicate(timeout=30)
    assert tool.returncode == 130
    assert errors.endswith("interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(started, 0)


def test_nohup_goes_on() -> None:
    tool = subprocess.Popen(
        ["nohup", sys.executable, "-c", TOOL.format(seconds=1)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tool.stdout is not None
    tool.stdout.readline()
    tool.send_signal(signal.SIGHUP)
    assert tool.communicate(timeout=30)[0] == "slept\n"
    assert tool.returncode == 0
