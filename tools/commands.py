"""Run other programs from tools: git, DVC, Python; Ctrl-C ends them too."""

import getpass
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.base.errors import UserError

DVC = (sys.executable, "-m", "dvc")
# Variables by which git is told how to connect, log and be configured. The others that begin with
# GIT_ say in which repository a hook, `rebase --exec` or a worktree works: not in ours.
KEPT_OF_GIT = re.compile(
    "GIT_(ASKPASS|CONFIG_(?!PARAMETERS)|EXEC_PATH|HTTP|PROXY|SSH|SSL|TERMINAL_PROMPT|TEST|TRACE)"
)
NO_HOME = "/nonexistent"  # as Debian calls it
# They end what a tool started, as Ctrl-C does.
ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def tidy_environment() -> None:
    """Remove variables that lead git elsewhere; give a name and a home to a user who has none.

    As in a container that runs as a number. Without a name DVC ends in a KeyError, and in a home
    that may not be entered it ends in a PermissionError.
    """
    for name in list(os.environ):
        if name.startswith("GIT_") and not KEPT_OF_GIT.match(name):
            del os.environ[name]
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):  # which of them depends on the version of Python
        os.environ["USER"] = f"user-{os.getuid()}"
    try:
        has_home = os.access(Path.home(), os.X_OK)
    except RuntimeError:  # neither a variable nor an account
        has_home = False
    if not has_home:
        os.environ["HOME"] = NO_HOME


tidy_environment()  # here, for DVC is called in this process too


def environment() -> dict[str, str]:
    """Environment variables with which `python` is this Python, as dvc.yaml expects."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return os.environ | {"PATH": os.pathsep.join(folders)}


def run(
    directory: Path,
    *command: str,
    capture: bool = False,
    variables: Mapping[str, str] | None = None,
    text: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command; Ctrl-C or SIGTERM interrupts all that it started, and waits for it.

    Args:
        capture: whether to return what it prints, instead of printing it.
        variables: of the environment, besides those of this process.
        text: for its standard input.
    """
    pipe = subprocess.PIPE if capture else None
    with _endings_interrupt():
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment() | dict(variables or {}),
                stdin=None if text is None else subprocess.PIPE,
                stdout=pipe,
                stderr=pipe,
                encoding="utf-8",
                errors="surrogateescape",  # names of files need not be UTF-8
                start_new_session=True,  # so that Ctrl-C reaches it through this process alone
                preexec_fn=_heed_interrupts,
            )
        except FileNotFoundError:
            raise UserError(f"{command[0]}: no such program; install it") from None
        try:
            stdout, stderr = process.communicate(text)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.communicate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@contextmanager
def _endings_interrupt() -> Iterator[None]:
    """Let ``ENDINGS`` raise KeyboardInterrupt, but for those that are ignored, as by nohup."""
    changed = []
    if threading.current_thread() is threading.main_thread():
        changed = [number for number in ENDINGS if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _heed_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C; here it comes from :func:`run` only."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def output(
    directory: Path, *command: str, error: str = "", variables: Mapping[str, str] | None = None
) -> str:
    """What a command prints.

    Args:
        variables: of the environment, besides those of this process.

    Raises:
        UserError: it failed; the text is ``error``, or why by what it printed.
    """
    done = run(directory, *command, capture=True, variables=variables)
    if done.returncode:
        raise UserError(error or f"{shlex.join(command)}: {reason(done.stderr)}")
    return done.stdout


def reason(errors: str) -> str:
    """What git says from its first error on, with its advice; else a command's last line."""
    lines = errors.strip().splitlines() or ["failed"]
    for number, line in enumerate(lines):
        if line.startswith(("fatal: ", "error: ")):
            return " ".join(" ".join(lines[number:]).split())
    return lines[-1]
