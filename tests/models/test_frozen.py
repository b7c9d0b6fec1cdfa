"""The frozen beginning: where it ends, what it computes, and how often."""

import shutil
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from pipeline.base.cache import GIGABYTE, Cache, Entry, read_header
from pipeline.data.views import EVALUATION
from pipeline.models import frozen
from pipeline.models.freezing import section
from pipeline.models.frozen import FrozenBeginning, Inputs, Part, frozen_beginning, logits
from pipeline.models.networks import new_network
from tests.conftest import NETWORK
from tests.small import (
    BLOCK_AND_HEAD,
    COUNTS,
    CPU,
    HEAD,
    SmallData,
    flip_bit,
    small_network,
    small_recipe,
    write_small_data,
)

ROWS = 16  # of an entry of the cache, in place of 1,024
ENTRIES = 2  # of an epoch of the training split


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return write_small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def small_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "ROWS", ROWS)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", GIGABYTE)


@pytest.fixture
def off(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "off", 0)


def beginning(
    network: nn.Module,
    trained: Collection[str],
    others: Collection[Collection[str]] = (),
    precision: str = "fp32",
) -> FrozenBeginning:
    recipe = small_recipe(precision=precision)
    return frozen_beginning(network, trained, others, recipe, CPU)


def stored(cache: Cache) -> list[dict[str, object]]:
    """What the outputs of frozen layers in the cache are of."""
    headers = [read_header(path)[0] for path in cache.files() if path.parent.name == "frozen"]
    return sorted((header["note"] for header in headers), key=str)


def computed(parts: Iterable[Part]) -> Counter[str]:
    """How many images pass each part from now on, by the module where it ends."""
    counts: Counter[str] = Counter()
    for part in parts:

        def count(
            network: nn.Module, images: object, outputs: Tensor, name: str = part.module
        ) -> None:
            counts[name] += len(outputs)

        part.network.register_forward_hook(count)
    return counts


def test_it_ends_before_what_is_trained_and_is_cut_where_others_end() -> None:
    network = small_network()
    alone = beginning(network, HEAD)
    assert [(part.module, part.values) for part in alone.parts] == [("flatten", 8)]
    shared = beginning(network, HEAD, [list(BLOCK_AND_HEAD), list(HEAD)])
    assert [(part.module, part.values) for part in shared.parts] == [
        ("block1", 8 * 8 * 8),
        ("flatten", 8),
    ]
    assert shared.end == alone.end
    assert shared.parts[-1].digest == alone.parts[-1].digest
    first = beginning(network, BLOCK_AND_HEAD, [list(HEAD)])  # which goes further: no cut
    assert [part.module for part in first.parts] == ["block1"]
    assert first.parts[0].digest == shared.parts[0].digest


def test_random_weights_have_none() -> None:
    recipe = small_recipe(initial="random")
    assert frozen_beginning(small_network(), HEAD, [], recipe, CPU) == FrozenBeginning([], 0)


def test_what_is_larger_than_the_image_is_not_kept() -> None:
    """In ResNet18: 64 x 56 x 56 numbers before layer1, and 3 x 224 x 224 in an image."""
    network = get_model("resnet18", num_classes=3).eval().requires_grad_(False)
    recipe = small_recipe(resize=224, crop=224)
    layers = ["layer1", "layer2", "layer3", "layer4", "fc"]
    assert frozen_beginning(network, layers, [], recipe, CPU) == FrozenBeginning([], 0)
    assert frozen_beginning(network, ["conv1", *layers], [], recipe, CPU).parts == []
    (part,) = frozen_beginning(network, ["fc"], [layers], recipe, CPU).parts
    assert (part.module, part.values) == ("avgpool", 512)


def test_others_do_not_decide_whether_there_is_a_beginning() -> None:
    """What another approach keeps is small, what this one would keep is larger than the image."""
    parts = {
        "first": nn.Conv2d(3, 2, 3, padding=1),
        "second": nn.Conv2d(2, 8, 3, padding=1),
        "third": nn.Conv2d(8, 1, 3, padding=1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(16 * 16, 3),
    }
    network = nn.Sequential(OrderedDict(parts)).eval().requires_grad_(False)
    other = ["second", "third", "fc"]
    assert [part.module for part in beginning(network, other).parts] == ["first"]
    assert beginning(network, ["third", "fc"], [other]) == FrozenBeginning([], 0)
    assert [part.module for part in beginning(network, ["fc"], [["third", "fc"]]).parts] == [
        "flatten"
    ]


def digest(network: nn.Module, trained: Collection[str] = tuple(BLOCK_AND_HEAD)) -> str:
    return beginning(network, trained).parts[-1].digest


def test_its_digest_is_of_all_operations_and_weights_before_its_end() -> None:
    first = digest(small_network())
    other_head = small_network()
    other_head.fc = nn.Linear(8, 5)
    assert digest(other_head) == first

    networks = [small_network(seed=1), small_network(), small_network(), small_network()]
    with torch.no_grad():
        networks[1].get_parameter("block1.0.weight")[0, 0, 0, 0] += 1
        networks[2].get_buffer("block1.1.running_mean")[0] += 1
    norm = networks[3].get_submodule("block1.1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.eps = 1e-3
    digests = [first, digest(small_network(), HEAD), *map(digest, networks)]
    assert len(set(digests)) == len(digests)


def test_outputs_are_what_the_frozen_layers_make_of_the_views(
    data: SmallData, cache: Cache
) -> None:
    network = small_network()
    found = beginning(network, BLOCK_AND_HEAD)
    layers = section(network, 0, found.end)
    inputs = Inputs(data.views("train", cache), found.parts, cache)
    rows = np.random.default_rng(0).permutation(COUNTS["train"])
    epochs = []
    for epoch in (1, 2, EVALUATION):
        batch = inputs.epoch(epoch)
        every = batch(np.arange(COUNTS["train"]))
        with torch.no_grad():
            expected = layers(inputs.views.batch(rows, epoch))
        torch.testing.assert_close(batch(rows), expected)
        assert torch.equal(batch(rows), every[rows])
        assert every.is_contiguous(memory_format=torch.channels_last)
        epochs.append(every)
    assert not any(torch.equal(epochs[0], other) for other in epochs[1:])
    notes = [{"epoch": e, "split": "train", "module": "block1"} for e in (EVALUATION, 1, 2)]
    assert stored(cache) == [note for note in notes for _ in range(ENTRIES)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("other", ["block2", "block2.1"])  # the latter is a BatchNorm
def test_where_it_is_cut_changes_no_bit(
    data: SmallData, cache: Cache, off: Cache, other: str, precision: str
) -> None:
    """So another approach in params.yaml changes no result, whatever it trains."""
    network = small_network()
    alone = beginning(network, HEAD, precision=precision)
    cut = beginning(network, HEAD, [[other, "fc"]], precision)
    assert (len(alone.parts), len(cut.parts)) == (1, 2)
    rows = np.arange(ROWS)
    outputs = [
        Inputs(data.views("train", cache), found.parts, used).epoch(1)(rows)
        for found, used in ((alone, off), (cut, off), (cut, cache))
    ]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_another_epoch_is_computed_and_nothing_again(data: SmallData, cache: Cache) -> None:
    parts = beginning(small_network(), BLOCK_AND_HEAD).parts
    counts = computed(parts)
    count = COUNTS["train"]
    for epoch, expected in ((1, count), (2, 2 * count), (1, 2 * count), (2, 2 * count)):
        Inputs(data.views("train", cache), parts, cache).epoch(epoch)
        assert counts["block1"] == expected
    again = beginning(small_network(), BLOCK_AND_HEAD).parts  # as in another process
    counts = computed(again)
    Inputs(data.views("train", cache), again, Cache(cache.folder, cache.limit)).epoch(2)
    assert not counts


def test_a_common_beginning_is_computed_once(data: SmallData, cache: Cache) -> None:
    """Whichever approach is the first."""
    count = COUNTS["train"]
    trained = [list(HEAD), list(BLOCK_AND_HEAD)]
    for order in (trained, trained[::-1]):
        counts: list[Counter[str]] = []
        for names in order:
            parts = beginning(small_network(), names, trained).parts
            counts.append(computed(parts))
            Inputs(data.views("train", cache), parts, cache).epoch(1)
        assert sum(counts, Counter()) == {"block1": count, "flatten": count}
        shutil.rmtree(cache.folder)


@pytest.mark.parametrize("part", ["environment", "code", "precision"])
def test_other_circumstances_share_nothing(
    data: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    Inputs(data.views("train", cache), beginning(small_network(), HEAD).parts, cache).epoch(1)
    if part == "environment":
        monkeypatch.setattr(frozen, "environment", lambda: {"torch": "another version"})
    if part == "code":
        monkeypatch.setattr(frozen, "source_digest", lambda *paths: "another digest")
    precision = "bf16" if part == "precision" else "fp32"
    parts = beginning(small_network(), HEAD, precision=precision).parts
    counts = computed(parts)
    Inputs(data.views("train", cache), parts, cache).epoch(1)
    assert counts == {"flatten": COUNTS["train"]}


def test_only_what_is_missing_or_damaged_is_computed_again(
    data: SmallData, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = beginning(small_network(), BLOCK_AND_HEAD).parts
    rows = np.arange(COUNTS["train"])
    right = Inputs(data.views("train", cache), parts, cache).epoch(1)(rows)
    counts = computed(parts)
    by_size = sorted((cache.folder / "frozen").iterdir(), key=lambda path: path.stat().st_size)
    flip_bit(by_size[0], place=-1)  # of the last five images
    again = Inputs(data.views("train", cache), parts, cache).epoch(1)(rows)
    assert torch.equal(again, right)
    assert counts["block1"] == COUNTS["train"] - ROWS
    assert "damaged (other bytes than were written)" in capsys.readouterr().err
    by_size[1].unlink()
    again = Inputs(data.views("train", cache), parts, cache).epoch(1)(rows)
    assert torch.equal(again, right)
    assert counts["block1"] == COUNTS["train"]


def test_an_entry_that_another_process_deletes_at_once_is_computed(
    data: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = beginning(small_network(), HEAD).parts
    inputs = Inputs(data.views("train", cache), parts, cache)
    rows = np.arange(COUNTS["train"])
    right = inputs.epoch(1)(rows)
    get = Cache.get

    def get_and_lose(self: Cache, kind: str, key: dict[str, object]) -> Entry | None:
        entry = get(self, kind, key)
        if entry:
            entry.path.unlink()
        return entry

    monkeypatch.setattr(Cache, "get", get_and_lose)
    assert torch.equal(inputs.epoch(1)(rows), right)


def test_what_is_mapped_outlives_its_file(data: SmallData, cache: Cache) -> None:
    inputs = Inputs(data.views("train", cache), beginning(small_network(), HEAD).parts, cache)
    right = inputs.epoch(1)(np.arange(5))
    batch = inputs.epoch(1)
    shutil.rmtree(cache.folder)
    assert torch.equal(batch(np.arange(5)), right)


def test_bf16_is_stored_as_its_bits(data: SmallData, cache: Cache) -> None:
    parts = beginning(small_network(), BLOCK_AND_HEAD, precision="bf16").parts
    exact = beginning(small_network(), BLOCK_AND_HEAD).parts
    rows = np.arange(COUNTS["train"])
    first = Inputs(data.views("train", cache), parts, cache).epoch(1)(rows)
    again = Inputs(data.views("train", cache), parts, cache).epoch(1)(rows)
    fp32 = Inputs(data.views("train", cache), exact, cache).epoch(1)(rows)
    assert first.dtype == again.dtype == torch.bfloat16
    assert torch.equal(first, again)
    assert not torch.equal(first.float(), fp32)
    torch.testing.assert_close(first.float(), fp32, rtol=0, atol=0.05)
    sizes = {stat.st_size // 1000 for path, stat in cache.files().items() if "frozen" in str(path)}
    assert min(sizes) < ROWS * 8 * 8 * 8 * 2 // 1000 + 2


def test_an_epoch_too_large_for_memory_is_computed_batch_by_batch(
    data: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = beginning(small_network(), BLOCK_AND_HEAD).parts
    inputs = Inputs(data.views("train", cache), parts, cache)
    monkeypatch.setattr(frozen, "LARGEST_EPOCH", 8 * 8 * 8 * COUNTS["train"] - 1)
    rows = np.array([20, 3, 17, 0])
    outputs = inputs.epoch(1)(rows)
    assert not outputs.requires_grad
    assert stored(cache) == []
    monkeypatch.setattr(frozen, "LARGEST_EPOCH", 8 * 8 * 8 * COUNTS["train"])
    torch.testing.assert_close(inputs.epoch(1)(rows), outputs)
    assert len(stored(cache)) == ENTRIES


def test_without_a_frozen_beginning_the_inputs_are_the_views(data: SmallData, cache: Cache) -> None:
    views = data.views("train", cache)
    rows = np.array([4, 2])
    inputs = Inputs(views, [], cache)
    assert torch.equal(inputs.epoch(1)(rows), views.batch(rows, 1))
    assert len(inputs) == COUNTS["train"]
    assert stored(cache) == []


@pytest.mark.parametrize("trained", [HEAD, BLOCK_AND_HEAD, None])
def test_logits_are_those_of_the_network_in_order(
    data: SmallData, cache: Cache, off: Cache, trained: dict[str, float] | None
) -> None:
    network = small_network()
    found = beginning(network, trained) if trained else FrozenBeginning([], 0)
    rest = section(network, found.end, None)
    views = data.views("train", cache, augmentation=None)
    with torch.no_grad():
        expected = network(views.batch(np.arange(COUNTS["train"]), EVALUATION))
    for used in (off, cache, cache):
        outputs = logits(rest, Inputs(views, found.parts, used))
        assert (outputs.dtype, outputs.shape) == (torch.float32, (COUNTS["train"], 3))
        torch.testing.assert_close(outputs, expected)


def test_logits_show_progress_if_they_are_given_a_title(
    data: SmallData,
    cache: Cache,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.base.progress.INTERVAL", 0)
    inputs = Inputs(data.views("train", cache, None), [], cache)
    quiet = logits(small_network(), inputs)
    capsys.readouterr()
    assert torch.equal(logits(small_network(), inputs, "test"), quiet)
    *_, last = capsys.readouterr().err.splitlines()
    assert "test: 100%" in last
    assert f"{COUNTS['train']}" in last


def test_threads_that_share_the_chunks_change_no_bit() -> None:
    network = new_network(NETWORK, None, 3, seed=0).eval()
    recipe = small_recipe(resize=32, crop=32)
    (part,) = frozen_beginning(network, HEAD, [], recipe, CPU).parts
    images = torch.rand(37, 3, 32, 32)
    chunks = [np.arange(0, 16), np.arange(16, 32), np.arange(32, 37)]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found = frozen.run_on_threads(part.network, lambda rows: images[rows], chunks)
            results.append(torch.cat(list(found)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_on_an_accelerator_nothing_is_stored(
    data: SmallData, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as it can be shown without one: the device's name is CUDA, its tensors are here."""
    monkeypatch.setattr("pipeline.data.views.to_device", lambda tensor, device: tensor)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    monkeypatch.setattr(frozen, "CHUNK_ACCELERATOR", 5)
    network = small_network()
    found = beginning(network, BLOCK_AND_HEAD)
    rest = section(network, found.end, None)
    views = data.views("train", cache)
    rows = np.array([20, 3, 17])
    with torch.no_grad():
        expected = network(views.batch(np.arange(COUNTS["train"]), EVALUATION))
        layers = section(network, 0, found.end)(views.batch(rows, 1))
    views.device = torch.device("cuda")
    inputs = Inputs(views, found.parts, cache)
    outputs = inputs.epoch(1)(rows)
    assert not outputs.requires_grad
    torch.testing.assert_close(outputs, layers)
    torch.testing.assert_close(logits(rest, inputs), expected)
    assert stored(cache) == []
