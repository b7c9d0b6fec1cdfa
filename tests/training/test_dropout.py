"""What a network draws in training (dropout, stochastic depth) has an address too: other processes draw the same."""

from pathlib import Path

import pytest
import torch
import yaml
from torchvision.models import get_model

from pipeline.params import read_yaml
from tests.base.test_checkpoint import interrupt, results
from tests.conftest import Run
from tools.sandbox import merge

RATES = {
    "mobilenet_v3_small": {"classifier": 1e-3},  # dropout
    "efficientnet_b0": {"features.6": 1e-4, "features.7": 1e-4, "features.8": 1e-4, "classifier": 1e-3},  # and depth
}


@pytest.fixture(params=RATES)
def adapting(request: pytest.FixtureRequest, copy: Path) -> Path:
    """A project with another backbone, of random weights, before its training."""
    torch.manual_seed(0)
    torch.save(get_model(request.param).state_dict(), copy / "data" / "backbone.pth")
    approach = {"initial": "backbone", "input": "pixels", "learning_rates": RATES[request.param]}
    changes = {
        "backbone": {"network": request.param, "path": "data/backbone.pth"},
        "train": {"epochs": 2},
        "features": {"layer3": None, "avgpool": None},
        "alike": [],
        "approaches": {"feature_extraction": None, "fine_tuning": None, "drawing": approach},
    }
    params = merge(read_yaml(copy / "params.yaml"), changes)
    (copy / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return copy


def test_a_resumed_training_in_another_process_ends_in_the_same_bytes(adapting: Path, run: Run) -> None:
    result = run(adapting, "stages", "train", "drawing")
    assert result.returncode == 0, result.stdout
    undisturbed = results(adapting, "drawing")
    for folder in ("models", "history"):
        next((adapting / folder).glob("drawing.*")).unlink()
    interrupt(adapting, "drawing", 1)
    result = run(adapting, "stages", "train", "drawing")
    assert "resumed from .resume/drawing" in result.stdout
    assert results(adapting, "drawing") == undisturbed
