"""Stored features, and passes without gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from pipeline.base.arrays import ArrayReader
from pipeline.data.pixels import Split
from pipeline.data.views import pixel_inputs
from pipeline.models.features import feature_inputs, most_alike, outputs
from pipeline.models.networks import pretrained_network, read_backbone
from pipeline.models.sections import for_inference, section
from pipeline.models.storage import load_model
from pipeline.params import load_params


@pytest.mark.parametrize("module", ["layer3", "avgpool"])
@pytest.mark.parametrize(("split", "epoch"), [("train", 1), ("train", 2), ("val", 0), ("test", 0)])
def test_stored_features_are_what_the_backbone_makes_of_the_pixels(
    project: Path, module: str, split: str, epoch: int
) -> None:
    """After a real run, against the unfused backbone on the pixels: the same view of the same image."""
    params, cpu = load_params(project / "params.yaml"), torch.device("cpu")
    images = Split(project / "data" / "pixels", split)
    rows = np.array([5, 0, 6])
    pixels = pixel_inputs(images, params.transforms.model_dump(), cpu, params.train.seed)(rows, epoch)
    backbone = pretrained_network("resnet18", read_backbone(project / "data" / "drawn" / "backbone"))
    with torch.no_grad():
        expected = section(backbone, to=module)(pixels)
    stored = feature_inputs(project / "data" / module / f"{split}.npy", len(images), cpu)(rows, epoch)
    torch.testing.assert_close(stored, expected, rtol=1e-3, atol=1e-4)


def test_features_are_as_many_as_the_views(project: Path) -> None:
    for module, shape in {"layer3": (256, 2, 2), "avgpool": (512, 1, 1)}.items():
        for split, views_made in {"train": 2 * 16, "val": 8, "test": 12}.items():
            assert ArrayReader(project / "data" / module / f"{split}.npy").shape == (views_made, *shape)


@pytest.mark.parametrize("approach", ["feature_extraction", "fine_tuning"])
def test_the_saved_model_predicts_from_pixels_what_evaluation_predicted_from_features(
    project: Path, approach: str
) -> None:
    model, _ = load_model(project / "models" / f"{approach}.safetensors")
    images = Split(project / "data" / "pixels", "test")
    params = load_params(project / "params.yaml")
    with torch.no_grad():
        logits = model(pixel_inputs(images, params.transforms.model_dump(), torch.device("cpu"))(np.arange(12), 0))
    table = np.genfromtxt(project / "predictions" / f"{approach}.csv", delimiter=",", names=True)
    assert logits.argmax(1).tolist() == table["prediction"].tolist()
    assert logits.softmax(1).max(1).values.numpy() == pytest.approx(table["confidence"], abs=1e-4)


def test_threads_that_share_the_chunks_change_no_bit() -> None:
    network = for_inference(section(get_model("resnet18"), to="layer3"))
    images, cpu, threads = torch.rand(37, 3, 64, 64), torch.device("cpu"), torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found = list(outputs(network, lambda rows, epoch: images[rows], 37, 0, cpu))
            assert [len(chunk) for chunk in found] == [16, 16, 5]
            assert torch.get_num_threads() == number
            results.append(torch.cat(found))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_most_alike_are_those_of_the_largest_cosine_whatever_their_length() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(5, 8, 1, 1)), random.normal(size=(2_500, 8, 1, 1))
    second[2_400], second[7] = 3 * first[4], first[1] + 0.1
    table = most_alike(first.astype(np.float32), second.astype(np.float32), 20)
    assert list(zip(table["train"], table["test"], strict=True))[:2] == [(4, 2_400), (1, 7)]
    assert table["cosine"][0] == 1
    units = [array.reshape(len(array), 8) for array in (first, second)]
    units = [array / np.linalg.norm(array, axis=1, keepdims=True) for array in units]
    assert table["cosine"].to_numpy() == pytest.approx(np.sort((units[0] @ units[1].T).ravel())[:-21:-1], abs=1e-4)
