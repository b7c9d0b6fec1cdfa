"""An interrupted training goes on from its last finished epoch, and ends in the same bytes.

The state lies outside the pipeline's outs, which DVC deletes before a stage runs. It carries the fingerprint of all
that determines the result, and its own checksum; a state that fits neither is refused, never half believed.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch

from pipeline.files import atomic, hex_digest


def fingerprint(files: list[Path], values: Any) -> str:
    """SHA-256 over the contents of ``files``, ``values`` (what JSON can hold) and torch's version, as hex digits."""
    digests = [hex_digest(path, "sha256") for path in files]
    return hashlib.sha256(json.dumps([torch.__version__, digests, values]).encode()).hexdigest()


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

    def load(self) -> tuple[dict[str, Any] | None, str]:
        """The state if there is one that belongs to this training (else None), and a line that says so."""
        try:
            stored = self.path.read_bytes()
        except FileNotFoundError:
            return None, ""
        if hashlib.sha256(stored[128:]).hexdigest().encode() != stored[64:128]:
            return None, f"{self.path}: damaged, not resumed; starting over\n"
        if stored[:64] != self.fingerprint.encode():
            return None, f"{self.path}: belongs to other params, data, weights or code, not resumed; starting over\n"
        return torch.load(io.BytesIO(stored[128:]), weights_only=True), f"resumed from {self.path}\n"

    def discard(self) -> None:
        """Remove the state; the training has its results."""
        self.path.unlink(missing_ok=True)
