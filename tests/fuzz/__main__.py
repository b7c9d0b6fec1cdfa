"""Fuzz by coverage: python -m tests.fuzz TARGET|all COUNT SEED

Needs `pip install atheris` (Linux, macOS). Prints a line for each target: inputs, answers,
UserErrors, seconds, memory. An input that ends in anything else, takes ten seconds or more than a
gigabyte ends the run, and is written to the current directory.
"""

import importlib.util
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Modules whose coverage counts: those in Python that read the inputs.
PARSERS = ["pipeline", "stages", "PIL", "ruamel", "tarfile", "zipfile"]


def main(name: str, count: str, seed: str) -> None:
    from tests.fuzz.targets import TARGETS

    if name not in [*TARGETS, "all"]:
        sys.exit(f"error: no target {name!r}; there are {', '.join(TARGETS)}, and all")
    if not importlib.util.find_spec("atheris"):
        sys.exit("error: atheris is missing: pip install atheris")
    for target in TARGETS if name == "all" else [name]:
        call = f"fuzz({target!r}, {int(count)}, {int(seed)})"
        code = f"from tests.fuzz.__main__ import fuzz; {call}"
        with tempfile.TemporaryFile("w+") as log:
            done = subprocess.run([sys.executable, "-c", code], stderr=log)
            log.seek(0)
            if done.returncode:
                sys.exit("".join(log.readlines()[-3:]))


def fuzz(name: str, count: int, seed: int) -> None:
    """Fuzz one target, in a process that does nothing else, so that its memory can be measured."""
    import atheris

    with atheris.instrument_imports(include=PARSERS):
        from tests.fuzz.targets import TARGETS, attempt
    target = TARGETS[name]
    outcomes = {True: 0, False: 0}  # answers, UserErrors
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as directory:
        for number, content in enumerate(target.seeds()):
            Path(corpus, str(number)).write_bytes(content)

        def test(data: bytes) -> None:
            outcomes[attempt(target, data, Path(directory))] += 1

        memory = peak_memory()
        start = time.monotonic()
        limits = ["-timeout=10", f"-rss_limit_mb={memory + 1024}"]
        atheris.Setup([name, f"-atheris_runs={count}", f"-seed={seed}", *limits, corpus], test)
        try:
            atheris.Fuzz()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # libFuzzer leaves its alarm on
            print(
                f"{name}: {sum(outcomes.values()):,} inputs: {outcomes[True]:,} answers, "
                f"{outcomes[False]:,} UserErrors, {time.monotonic() - start:.0f} s, "
                f"{memory} + {peak_memory() - memory} MB",
                flush=True,
            )


def peak_memory() -> int:
    """The largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main(*sys.argv[1:])
