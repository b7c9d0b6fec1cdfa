"""A stage in several processes, on one machine or more, by a launcher such as torchrun.

The launcher sets RANK (of a process, from 0) and WORLD_SIZE (their number); without one there is one process.
"""

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence

from pipeline.base.errors import UserError

OTHER = "another process failed, or let this one wait for too long"
RANK, SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def launch(words: str, stage: Sequence[str]) -> None:
    """Run a stage (its name and argument) by a launcher; what it prints goes through.

    Args:
        words: the launcher with its options, as ``runtime.launch`` says them; $NAME is a variable of the environment.

    Raises:
        UserError: there is no such program, or a process failed or was killed, for which the launcher ends all.
    """
    command = [*shlex.split(os.path.expandvars(words)), "-m", "stages", *stage]
    end = _end_with_parent if sys.platform == "linux" else None
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", preexec_fn=end)
    except OSError as error:
        raise UserError(f"params.yaml: runtime.launch = {words!r}: {command[0]}: {error.strerror}") from None
    errors, report = [], ""  # for people, of the processes; of the launcher, or of a process that has a bug
    with process:
        for line in process.stderr or ():
            if report or line.startswith("Traceback "):
                report += line
            elif line.startswith("error: "):
                errors += [line.removeprefix("error: ").strip()] if OTHER not in line else []
            elif not re.match(r"[EWI]\d{4} ", line):  # a launcher's own log
                sys.stderr.write(line)
    if not process.returncode:
        return
    before, _, last = report.rpartition("Traceback ")
    sys.stderr.write(before)
    codes = [int(code) for code in re.findall(r"exitcode *: (-?\d+)", last)]
    codes.sort(key=lambda code: (code == -signal.SIGTERM, code))  # which the launcher sends to the others
    why = f"a process ended with {codes[0]}" if codes else (report.strip().splitlines() or ["it failed"])[-1]
    raise UserError(errors[0] if errors else f"runtime.launch = {words!r}: {why}; nothing was written, run it again")


def _end_with_parent() -> None:
    """Let the system end this process with the one that started it, which may be killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
