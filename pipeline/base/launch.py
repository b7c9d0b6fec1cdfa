"""A stage in several processes, started by a launcher such as torchrun.

The launcher sets two variables of the environment: RANK (the number of this process, from 0) and
WORLD_SIZE (how many there are). Only this file and pipeline/compute/processes.py use them.
"""

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence

from pipeline.base.errors import UserError

RANK = int(os.environ.get("RANK", 0))
SIZE = int(os.environ.get("WORLD_SIZE", 1))
# Of an error that only says that another process failed.
OTHER = "another process failed, or made this one wait for too long"
PR_SET_PDEATHSIG = 1  # prctl: the signal to receive when the parent process ends


def is_launched() -> bool:
    """Whether a launcher started this process."""
    return "RANK" in os.environ


def is_first() -> bool:
    """Whether this is the process that writes files and prints, as it is without a launcher."""
    return RANK == 0


def launch(launcher: str, stage: Sequence[str]) -> None:
    """Run a stage by a launcher; what it prints is passed on.

    Args:
        launcher: the program with its options, as in ``runtime.launch``; $NAME is a variable of the
            environment.
        stage: name and argument of the stage.

    Raises:
        UserError: there is no such program, or a process failed or was killed (the launcher then
            ends the others).
    """
    setting = f"runtime.launch = {launcher!r}"
    command = [*shlex.split(os.path.expandvars(launcher)), "-m", "stages", *stage]
    try:
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    except OSError as error:
        raise UserError(f"params.yaml: {setting}: {command[0]}: {error.strerror}") from None
    with process:
        errors, tracebacks = _split_messages(process.stderr or ())
    if process.returncode == 0:
        return
    # The last traceback is the launcher's own; one before it is of a bug in a stage.
    before, _, last = tracebacks.rpartition("Traceback ")
    sys.stderr.write(before)
    if errors:
        raise UserError(errors[0])
    raise UserError(f"{setting}: {_reason(last)}; nothing was written, run it again")


def _split_messages(lines: Iterable[str]) -> tuple[list[str], str]:
    """Sort what the processes and the launcher print on stderr; other lines are passed on.

    Returns:
        Errors of the processes for people, but not those of processes that wait for a failed one;
        and everything from the first traceback on.
    """
    errors = []
    tracebacks = ""
    for line in lines:
        if tracebacks or line.startswith("Traceback "):
            tracebacks += line
        elif line.startswith("error: "):
            if OTHER not in line:
                errors.append(line.removeprefix("error: ").strip())
        elif not re.match(r"[EWI]\d{4} ", line):  # torchrun's own log
            sys.stderr.write(line)
    return errors, tracebacks


def _reason(report: str) -> str:
    """Why the launcher failed, from its traceback."""
    codes = [int(code) for code in re.findall(r"exitcode *: (-?\d+)", report)]
    if codes:
        # The launcher sends SIGTERM to the other processes, so any other code says more.
        first = min(codes, key=lambda code: (code == -signal.SIGTERM, code))
        return f"a process ended with {first}"
    lines = report.strip().splitlines()
    return lines[-1] if lines else "it failed"


def _end_with_parent() -> None:
    """Let the system end this process when its parent ends, which may be killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
