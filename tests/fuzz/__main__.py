"""Fuzz by coverage: python -m tests.fuzz TARGET|all COUNT SEED. Needs `pip install atheris` (Linux, macOS).

Prints a line a target: inputs, answers, UserErrors, seconds, memory. An input that ends otherwise, takes ten seconds or
more than a gigabyte ends the run, and is kept in the current directory.
"""

import importlib.util
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PARSERS = ["pipeline", "stages", "PIL", "ruamel", "tarfile", "zipfile"]  # those in Python are watched


def main(name: str, count: str, seed: str) -> None:
    from tests.fuzz.targets import TARGETS

    if name not in [*TARGETS, "all"]:
        sys.exit(f"error: no target {name!r}; there are {', '.join(TARGETS)}, and all")
    if not importlib.util.find_spec("atheris"):
        sys.exit("error: atheris is missing: pip install atheris")
    for target in TARGETS if name == "all" else [name]:
        with tempfile.TemporaryFile("w+") as log:  # of what libraries print, too
            code = f"from tests.fuzz.__main__ import fuzz; fuzz({target!r}, {int(count)}, {int(seed)})"
            done = subprocess.run([sys.executable, "-c", code], stderr=log)
            log.seek(0)
            if done.returncode:
                sys.exit("".join(log.readlines()[-3:]))


def fuzz(name: str, count: int, seed: int) -> None:
    """In a process of its own, which has one target only and its memory."""
    import atheris

    with atheris.instrument_imports(include=PARSERS):
        from tests.fuzz.targets import TARGETS, attempt
    target, answers = TARGETS[name], {True: 0, False: 0}
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as directory:
        for number, content in enumerate(target.seeds()):
            Path(corpus, str(number)).write_bytes(content)

        def one(data: bytes) -> None:
            answers[attempt(target, data, Path(directory))] += 1

        before, start = peak(), time.monotonic()
        limits = ["-timeout=10", f"-rss_limit_mb={before + 1024}"]
        atheris.Setup([name, f"-atheris_runs={count}", f"-seed={seed}", *limits, corpus], one)
        try:
            atheris.Fuzz()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)  # libFuzzer leaves its alarm on
            seconds, memory = time.monotonic() - start, f"{before} + {peak() - before} MB"
            counts = f"{sum(answers.values()):,} inputs: {answers[True]:,} answers, {answers[False]:,} UserErrors"
            print(f"{name}: {counts}, {seconds:.0f} s, {memory}", flush=True)


def peak() -> int:
    """The largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main(*sys.argv[1:])
