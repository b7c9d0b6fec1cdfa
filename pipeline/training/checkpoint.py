"""Resumable trainings: an interrupted one continues after its last epoch, to the same bytes.

A checkpoint lies outside the pipeline's outs, which DVC deletes before a stage runs. It carries a
fingerprint of all that determines the result, and its own checksum; a checkpoint that fits neither
is refused, never half believed.
"""

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch

from pipeline.base.environment import environment
from pipeline.base.files import atomic, hex_digest


def fingerprint(files: list[Path], values: Any) -> str:
    """SHA-256 over what a result depends on, as hex digits.

    That is: the contents of ``files``, ``values`` (what JSON can hold), the code of this project
    that is loaded, and the environment (versions, CPU, GPU).
    """
    loaded = [
        module
        for name, module in sorted(sys.modules.items())
        if name.split(".")[0] in ("pipeline", "stages")
    ]
    code = [Path(module.__file__) for module in loaded if module.__file__]
    digests = [hex_digest(path, "sha256") for path in [*files, *code]]
    return hashlib.sha256(json.dumps([environment(), digests, values]).encode()).hexdigest()


class Checkpoint:
    """The state of one training, in a file: fingerprint, checksum (64 hex digits each), content."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state, atomically. ``state`` holds tensors and plain Python values."""
        content = io.BytesIO()
        torch.save(state, content)
        checksum = hashlib.sha256(content.getbuffer()).hexdigest()
        with atomic(self.path) as (temporary,), temporary.open("wb") as file:
            file.write(self.fingerprint.encode())
            file.write(checksum.encode())
            file.write(content.getbuffer())

    def load(self) -> dict[str, Any] | None:
        """The state if there is one that belongs to this training; prints whether, or why not."""
        try:
            stored = self.path.read_bytes()
        except FileNotFoundError:
            return None
        fault = ""
        state = None
        if hashlib.sha256(stored[128:]).hexdigest().encode() != stored[64:128]:
            fault = "damaged"
        elif stored[:64] != self.fingerprint.encode():
            fault = "belongs to other params, data, weights, code or environment"
        else:
            try:
                state = torch.load(io.BytesIO(stored[128:]), weights_only=True)
            except Exception:  # torch raises whatever the bytes lead it into
                fault = "damaged"
        if fault:
            print(f"{self.path}: {fault}, not resumed; starting over", flush=True)
        else:
            print(f"resumed from {self.path}", flush=True)
        return state

    def discard(self) -> None:
        """Remove the state; the training is done."""
        self.path.unlink(missing_ok=True)
