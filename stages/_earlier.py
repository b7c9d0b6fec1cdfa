"""What an earlier run of a stage left in DVC's cache, as a beginning of what the stage is to make now."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from shutil import copyfile

from pipeline.base.arrays import ArrayReader
from pipeline.base.checkpoint import Checkpoint


def bring_back(parts: Mapping[Path, Path], states: list[Checkpoint], module: str, rows: int) -> None:
    """Put finished arrays back as parts that :func:`pipeline.base.checkpoint.store` goes on with.

    Only where the first of them has fewer than ``rows`` rows and all else that they depend on is as it was.

    Args:
        parts: places of the parts, and of the finished arrays.
        states: of the parts; an earlier run has finished them.
        module: whose features they are; environment/ has the record of that run.
    """
    if any(part.exists() for part in parts) or not all(state.is_finished() for state in states):
        return
    try:
        outs = json.loads(Path(f"environment/features-{module}.json").read_text(encoding="utf-8"))["outs"]
        done = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True, check=True)
        cache = Path(done.stdout.strip()) / "files" / "md5"
        cached = [cache / md5[:2] / md5[2:] for md5 in (outs[final.as_posix()] for final in parts.values())]
        if ArrayReader(cached[0]).shape[0] >= rows:
            return
        for part, file in zip(parts, cached, strict=True):
            copyfile(file, part)
    except (OSError, subprocess.CalledProcessError, ValueError, LookupError):  # it is gone, so there is nothing to use
        for part in parts:
            part.unlink(missing_ok=True)
        return
    for state in states:
        state.reopen()
