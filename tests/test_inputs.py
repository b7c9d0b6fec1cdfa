"""What training starts from: views whose every random choice has an address, and stored features of them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline.arrays import ArrayReader, ArrayWriter
from pipeline.images import Split
from pipeline.inputs import feature_inputs, outputs, pixel_inputs, view, views
from pipeline.model import for_inference, load_model, pretrained_network, read_backbone, section
from pipeline.runtime import UserError
from pipeline.vision import get_model

from pipeline.params import load_params


def test_a_view_is_a_function_of_seed_epoch_and_image() -> None:
    assert view(0, 1, 17, 256, 300, 224, 0.5) == view(0, 1, 17, 256, 300, 224, 0.5)
    assert len({view(seed, epoch, 17, 256, 300, 224, 0.5) for seed in range(3) for epoch in range(3)}) == 9


def test_views_are_uniform_over_all_positions_and_flips() -> None:
    counts = Counter(view(0, 1, number, 10, 9, 8, 0.5) for number in range(12_000))
    assert set(counts) == {(top, left, flip) for top in range(3) for left in range(2) for flip in (False, True)}
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1150
    assert not any(view(0, 1, number, 10, 9, 8, 0.0)[2] for number in range(100))


def test_views_cut_and_mirror_the_picture(project: Path) -> None:
    images = Split(project / "data" / "pixels", "train")
    rows = np.array([3, 0, 7])
    squares = views(images, rows, seed=5, epoch=2, crop=32, flip=0.5)
    for row, square in zip(rows, squares, strict=True):
        whole = images.image(row)
        top, left, mirrored = view(5, 2, int(images.ids[row]), whole.shape[0], whole.shape[1], 32, 0.5)
        expected = whole[top : top + 32, left : left + 32]
        assert np.array_equal(square, expected[:, ::-1] if mirrored else expected)


@pytest.mark.parametrize("module", ["layer3", "avgpool"])
@pytest.mark.parametrize(("split", "epoch"), [("train", 1), ("train", 2), ("val", 0), ("test", 0)])
def test_stored_features_are_what_the_backbone_makes_of_the_pixels(
    project: Path, module: str, split: str, epoch: int
) -> None:
    """After a real run, against the unfused backbone on the pixels: the same view of the same picture."""
    params, cpu = load_params(project / "params.yaml"), torch.device("cpu")
    images = Split(project / "data" / "pixels", split)
    rows = np.array([5, 0, 6])
    pixels = pixel_inputs(images, params.transforms, cpu, params.train.seed)(rows, epoch)
    backbone = pretrained_network("resnet18", read_backbone(project / "data" / "raw" / "backbone.pth"))
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
        logits = model(pixel_inputs(images, params.transforms, torch.device("cpu"))(np.arange(12), 0))
    table = np.genfromtxt(project / "predictions" / f"{approach}.csv", delimiter=",", names=True)
    assert logits.argmax(1).tolist() == table["prediction"].tolist()
    assert logits.softmax(1).max(1).values.numpy() == pytest.approx(table["confidence"], abs=1e-4)


def test_threads_that_share_the_chunks_change_no_bit() -> None:
    network = for_inference(section(get_model("resnet18"), to="layer3"))
    pictures, cpu, threads = torch.rand(37, 3, 64, 64), torch.device("cpu"), torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found = list(outputs(network, lambda rows, epoch: pictures[rows], 37, 0, cpu))
            assert [len(chunk) for chunk in found] == [16, 16, 5]
            assert torch.get_num_threads() == number
            results.append(torch.cat(found))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_arrays_written_in_blocks_are_plain_npy_files(tmp_path: Path) -> None:
    values = np.arange(1_200, dtype=np.float32).reshape(100, 3, 4)
    with ArrayWriter(tmp_path / "x.npy") as file:
        for start in range(0, 100, 7):
            file.append(values[start : start + 7])
    assert np.array_equal(np.load(tmp_path / "x.npy"), values)
    reader = ArrayReader(tmp_path / "x.npy")
    assert np.array_equal(reader.read(42), values[42])
    assert np.array_equal(reader.read(98, 2), values[98:])
    with pytest.raises(UserError, match=r"x\.npy: made with other params, it holds only 100 rows"):
        reader.read(100)


def test_an_array_cut_short_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(1_000))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"x\.npy: not a complete \.npy file"):
        ArrayReader(tmp_path / "x.npy")
