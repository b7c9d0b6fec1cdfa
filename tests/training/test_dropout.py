"""What a network draws in training has an address too: other processes draw the same."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from pipeline.base.cache import Cache
from pipeline.models.freezing import PartlyTrained, section
from pipeline.models.networks import weights_digest
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.fit import fit
from tests.small import (
    BLOCK_AND_HEAD,
    CPU,
    SmallData,
    small_network,
    small_recipe,
    small_training,
    write_small_data,
)

RECIPE = small_recipe(BLOCK_AND_HEAD, epochs=3)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return write_small_data(tmp_path_factory.mktemp("data"))


def drawing_network(share: float = 0.5) -> nn.Module:
    """The small network with dropout before its head, and stochastic depth before that."""
    network = small_network()
    network.block2 = nn.Sequential(network.get_submodule("block2"), StochasticDepth(share, "row"))
    network.fc = nn.Sequential(nn.Dropout(share), network.get_submodule("fc"))
    return network.eval()


def train(
    images: SmallData, folder: Path, running_state: int, share: float = 0.5, epochs: int = 3
) -> str:
    """Train, or continue; the digest of the weights after ``epochs``.

    Args:
        running_state: seed of torch's generator before the training.
    """
    cache = Cache(folder / "cache", 10**9)
    training = small_training(images, RECIPE, cache, model=drawing_network(share))
    state = Checkpoint(folder / "state", "0" * 64)
    torch.manual_seed(running_state)
    for row in fit(training.network, training.data, RECIPE, CPU, state):
        torch.rand(running_state)
        if row["epoch"] == epochs:
            break
    return weights_digest(training.network.whole.state_dict())


def test_draws_do_not_depend_on_what_was_drawn_before(images: SmallData, tmp_path: Path) -> None:
    undisturbed = train(images, tmp_path / "undisturbed", 1)
    assert train(images, tmp_path / "again", 2) == undisturbed
    assert train(images, tmp_path / "killed", 3, epochs=1) != undisturbed
    assert train(images, tmp_path / "killed", 4) == undisturbed
    assert train(images, tmp_path / "no draws", 1, share=0.0) != undisturbed


def test_every_step_draws_anew(
    images: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    manual_seed = torch.manual_seed

    def recorded(seed: int) -> torch.Generator:
        seeds.append(seed)
        return manual_seed(seed)

    monkeypatch.setattr(torch, "manual_seed", recorded)
    train(images, tmp_path, 1)
    of_steps = [seed for seed in seeds if seed > 1000]
    assert len(of_steps) == len(set(of_steps)) == 9


def test_only_training_draws() -> None:
    """The part that is trained is traced in training mode; the mode can still change."""
    network = PartlyTrained(drawing_network(), BLOCK_AND_HEAD)
    network.trainable_part = section(network.whole, 0, None)
    images = torch.rand(16, 3, 16, 16)
    with torch.no_grad():
        expected = network.whole.eval()(images)
        assert torch.equal(network.eval()(images), expected)
        assert not torch.equal(network.train()(images), network(images))
        assert torch.equal(network.eval()(images), network(images))
