"""The backbones of the demo and of the tests, which lie in the repository."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.pretrain import SETTINGS
from tools.pretrain import pretrain, write_backbone

SHORT = replace(SETTINGS, network="mobilenet_v3_small", images_per_species=3, epochs=1)


def test_pretraining_depends_on_its_seed_alone() -> None:
    """With a network that has dropout, and nine images in batches of four, so one is left over."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(pretrain(SHORT, torch.device("cpu")))
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])


def test_weights_of_convolutions_are_small_on_disk(tmp_path: Path) -> None:
    write_backbone(tmp_path / "backbone.safetensors", SHORT)
    written = load_file(tmp_path / "backbone.safetensors")
    convolutions = [tensor for tensor in written.values() if tensor.ndim == 4]
    assert {tensor.dtype for tensor in convolutions} == {torch.float8_e4m3fn}
    assert all(tensor.float().any() for tensor in convolutions)
