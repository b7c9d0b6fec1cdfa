"""Trained models as files: weights and all that is needed to use them, in safetensors."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.base.files import atomic
from pipeline.models.networks import build, load_weights
from pipeline.models.params import Header


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values: equal exactly when the weights are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_model(path: Path, model: nn.Module, header: Mapping[str, Any]) -> None:
    """Write weights and ``header`` (JSON, what is needed to use them) as one safetensors file."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(model.state_dict().items())}
    content = save(state, metadata={"model": json.dumps(header)})
    with atomic(path) as (temporary,):
        temporary.write_bytes(content)


def load_model(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model that :func:`save_model` wrote, in eval mode on the CPU, and its header.

    Raises:
        UserError: not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = Header.model_validate_json(file.metadata()["model"]).model_dump()
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = build(header["network"], len(header["classes"]), header["pooled"])
        load_weights(model, state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).splitlines()[:2])  # of pydantic: what is wrong, and the key
        raise UserError(f"{path}: not a model of this pipeline ({reason}); run dvc repro train") from None
    return model.eval(), header
