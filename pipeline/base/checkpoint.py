"""What takes minutes goes on where it was interrupted, and ends in the same bytes.

The state lies outside the pipeline's outs, which DVC deletes before a stage runs. It carries the fingerprint of all
that determines the result, and its own checksum; a state that fits neither is refused, never half believed.
"""

import hashlib
import io
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base.arrays import ArrayWriter
from pipeline.base.distributed import agreed
from pipeline.base.environment import environment
from pipeline.base.files import atomic, hex_digest
from pipeline.base.launch import RANK
from pipeline.base.progress import progress

INTERVAL = 5.0  # seconds between two checkpoints of an array


def fingerprint(files: list[Path], values: Any) -> str:
    """SHA-256 over what a result depends on, as hex digits.

    That is, the contents of ``files``, ``values`` (what JSON can hold), the code of this project that is loaded, and
    the environment: versions, CPU, GPU.
    """
    loaded = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] in ("pipeline", "stages")]
    code = [Path(module.__file__) for module in loaded if module.__file__]
    digests = [hex_digest(path, "sha256") for path in [*files, *code]]
    return hashlib.sha256(json.dumps([environment(), digests, values]).encode()).hexdigest()


class Checkpoint:
    """The state of one piece of work, in one file: 64 bytes of fingerprint, 64 of checksum (both hex), the content."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state, atomically. ``state`` holds tensors and plain Python values."""
        content = io.BytesIO()
        torch.save(state, content)
        checksum = hashlib.sha256(content.getbuffer()).hexdigest()
        with atomic(self.path) as (temporary,), temporary.open("wb") as file:
            file.writelines([self.fingerprint.encode(), checksum.encode(), content.getbuffer()])

    def load(self) -> dict[str, Any] | None:
        """The state if there is one that belongs to this work (else None); prints which of both, and why."""
        try:
            stored = self.path.read_bytes()
        except FileNotFoundError:
            return None
        state, fault = None, ""
        if hashlib.sha256(stored[128:]).hexdigest().encode() != stored[64:128]:
            fault = "damaged"
        elif stored[:64] != self.fingerprint.encode():
            fault = "belongs to other params, data, weights, code or environment"
        else:
            try:
                state = torch.load(io.BytesIO(stored[128:]), weights_only=True)
            except Exception:  # torch raises whatever the bytes lead it into
                fault = "damaged"
        print(f"{self.path}: {fault}, not resumed; starting over" if fault else f"resumed from {self.path}", flush=True)
        return state

    def discard(self) -> None:
        """Remove the state; the work is done."""
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """The work is done; the state is laid aside, in case that the same work is to become longer."""
        self.path.replace(self._finished)

    def is_finished(self) -> bool:
        """Whether a state was laid aside, and belongs to this work."""
        return self._finished.exists() and self._finished.read_bytes()[:64] == self.fingerprint.encode()

    def reopen(self) -> None:
        """Take the state that was laid aside."""
        self._finished.replace(self.path)

    @property
    def _finished(self) -> Path:
        return self.path.with_name(f"{self.path.name}.finished")


def store(
    file: Path,
    blocks: Callable[[int], Iterator[np.ndarray]],
    total: int,
    what: str,
    checkpoint: Checkpoint,
) -> None:
    """Write blocks of rows to a .npy file; an interrupted writing goes on where it was some seconds before.

    Args:
        blocks: gives those from a row on, as :func:`pipeline.models.features.features` does.
        total: rows in all.
        what: they are, in a few words.
        checkpoint: tells which rows of ``file`` are there already.
    """
    if RANK:  # computes its share, and the first process writes
        deque(blocks(agreed(0)), maxlen=0)
        return
    state = checkpoint.load()
    try:
        if state and state["length"] > total:
            raise ValueError(f"{file}: has more rows than are wanted")
        array = ArrayWriter(file, state)
    except (OSError, ValueError):
        print(f"{file}: damaged, gone or too long, not resumed; starting over", flush=True)
        array = ArrayWriter(file)
    with array:
        saved = time.monotonic()
        for block in progress(blocks(agreed(array.length)), total, what, unit="views", count=len, before=array.length):
            array.append(block)
            if time.monotonic() - saved > INTERVAL:
                checkpoint.save(array.state())
                saved = time.monotonic()
        checkpoint.save(array.state())
    print(f"{what}: {array.length:,} views", flush=True)
