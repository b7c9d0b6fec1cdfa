"""The device that is asked for, deterministic arithmetic and the precision of a network."""

import os

import pytest
import torch
from torch import nn

from pipeline.base.errors import UserError
from pipeline.compute.device import set_precision, setup_torch
from tests.small import CPU


@pytest.fixture(autouse=True)
def usual_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process runs other tests too."""
    monkeypatch.setattr("pipeline.compute.device.keep_freed_memory", lambda: None)


def test_a_device_that_is_named_but_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    message = r"runtime\.device = cuda, but this machine has only: .*cpu \(or say auto\)"
    with pytest.raises(UserError, match=message):
        setup_torch("cuda", 1)
    assert setup_torch("cpu", 1) == CPU


def test_auto_is_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert setup_torch("auto", 1) == CPU
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert setup_torch("auto", 1).type == "mps"
    chosen: list[int] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert setup_torch("auto", 1).type == "cuda"
    assert chosen == [3]


def test_arithmetic_is_deterministic_on_the_threads_that_are_asked_for() -> None:
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = True
    try:
        setup_torch("cpu", 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_bf16_is_of_the_arithmetic_and_not_of_the_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    images = torch.randn(4, 16)
    exact = network(images)
    assert torch.equal(set_precision(network, "fp32", CPU)(images), exact)
    rounded = set_precision(network, "bf16", CPU)(images)
    assert rounded.dtype == torch.bfloat16
    assert not torch.equal(rounded.float(), exact)
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.05)
    rounded.float().sum().backward()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert {network.get_parameter("0.weight").grad.dtype} == {torch.float32}  # type: ignore[union-attr]


def test_tf32_is_refused_where_there_is_none() -> None:
    with pytest.raises(UserError, match="precision = tf32 needs CUDA, but the device is cpu; say"):
        set_precision(nn.Linear(2, 2), "tf32", CPU)
