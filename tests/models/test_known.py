"""What a model knows: the similarity to its training images, and where "none of these" begins."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.models import known
from pipeline.models.files import TrainedModel
from pipeline.models.freezing import with_features
from pipeline.models.known import keep, known_from, similarity, split_answers
from pipeline.models.networks import new_network
from tests.conftest import HEADER
from tests.small import CPU


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return new_network(HEADER.network, None, len(HEADER.classes), seed=0).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(6, 3, 32, 32)


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """What goes into the head, by a hook."""
    seen: list[Tensor] = []
    head = network.get_submodule("fc")
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.inference_mode():
        network(images)
    hook.remove()
    return seen[0]


def test_a_network_with_features_gives_its_logits_and_what_goes_into_its_head(
    network: nn.Module, images: Tensor
) -> None:
    with torch.inference_mode():
        outputs = with_features(network, 0)(images)
        logits, features = outputs.split([len(HEADER.classes), 1024], 1)
        assert torch.equal(logits, network(images))
    assert torch.equal(features, features_of(network, images))


def test_a_training_image_is_as_similar_as_can_be_and_another_one_less(
    network: nn.Module, images: Tensor
) -> None:
    kept = keep(features_of(network, images[:4]))
    assert kept.dtype == torch.float16
    with torch.inference_mode():
        answers = TrainedModel(network, HEADER, kept).classifier(CPU)(images)
    _, similar = split_answers(answers)
    expected = np.array([1.0] * 4)
    np.testing.assert_allclose(similar[:4], expected, atol=1e-3)
    cosine = torch.cosine_similarity(
        features_of(network, images)[4:, None], kept.float()[None], dim=2
    )
    torch.testing.assert_close(similar[4:], cosine.amax(1), rtol=0, atol=1e-3)


def test_where_nothing_is_kept_everything_is_known(network: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        _, similar = split_answers(TrainedModel(network, HEADER).classifier(CPU)(images))
    verdicts = {HEADER.verdict(0.9, value) for value in similar.tolist()}
    assert verdicts == {"sure"}


def test_of_many_training_images_some_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST", 4)
    features = torch.eye(9)
    assert torch.equal(keep(features), torch.eye(9)[::3].half())
    assert torch.equal(keep(features[:4]), torch.eye(9)[:4].half())


def test_a_share_of_the_validation_images_counts_as_known() -> None:
    similar = torch.linspace(0.1, 1, 10)[torch.randperm(10)]
    limit = known_from(similar, 0.8)
    assert limit is not None
    assert (similar >= limit - 1e-6).sum() == 8
    assert known_from(similar, 1.0) is None
    assert known_from(similar, 0.95) is None  # of ten images no twentieth is unknown


def test_without_kept_features_similarity_is_infinite() -> None:
    assert similarity(torch.rand(2, 3), torch.empty(0, 0)).tolist() == [torch.inf] * 2


def test_what_is_not_known_is_neither_sure_nor_unsure() -> None:
    header = HEADER.model_copy(update={"known_from": 0.5, "sure_from": 0.7})
    assert header.verdict(0.9, 0.4) == "none of these"
    assert header.verdict(0.9, 0.5) == "sure"
    assert header.verdict(0.6, 0.5) == "unsure"
