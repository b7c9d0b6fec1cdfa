"""An interrupted training goes on from its last finished epoch, and ends in the same bytes.

The state lies outside the pipeline's outs, which DVC deletes before a stage runs. It carries the fingerprint of all
that determines the result, and its own checksum; a state that fits neither is refused, never half believed.
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
    """SHA-256 over what a training depends on, as hex digits.

    That is the contents of ``files``, ``values`` (what JSON can hold), the code of this project that is loaded, and
    the environment: versions, CPU, GPU.
    """
    loaded = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] in ("pipeline", "stages")]
    code = [Path(module.__file__) for module in loaded if module.__file__]
    digests = [hex_digest(path, "sha256") for path in [*files, *code]]
    return hashlib.sha256(json.dumps([environment(), digests, values]).encode()).hexdigest()


class Checkpoint:
    """The state of one training, in one file: 64 bytes of fingerprint, 64 of checksum (both hex), the content."""

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
        """The state if there is one that belongs to this training (else None); prints which of both, and why."""
        try:
            stored = self.path.read_bytes()
        except FileNotFoundError:
            return None
        fault = ""
        if hashlib.sha256(stored[128:]).hexdigest().encode() != stored[64:128]:
            fault = "damaged"
        elif stored[:64] != self.fingerprint.encode():
            fault = "belongs to other params, data, weights, code or environment"
        print(f"{self.path}: {fault}, not resumed; starting over" if fault else f"resumed from {self.path}", flush=True)
        return None if fault else torch.load(io.BytesIO(stored[128:]), weights_only=True)

    def discard(self) -> None:
        """Remove the state; the training has its results."""
        self.path.unlink(missing_ok=True)
