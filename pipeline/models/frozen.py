"""The frozen beginning of a network: run without gradients, and on a CPU kept in the cache.

On a CPU the outputs of an epoch's views are computed once, in the order of the split, and stored
for every other training that begins in the same way: another approach, learning rate or number of
epochs. On an accelerator they are computed batch by batch and nothing is stored.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.base.cache import Cache, source_digest
from pipeline.base.environment import environment
from pipeline.base.launch import is_first
from pipeline.base.parallel import parallel_map
from pipeline.base.progress import progress
from pipeline.compute.device import set_precision
from pipeline.compute.processes import broadcast, gather_in_order, is_shared, own_parts
from pipeline.data.views import EVALUATION, Views, chunks
from pipeline.models.freezing import Place, frozen_place, fuse_frozen, section, values_at
from pipeline.models.networks import weights_digest

CHUNK_CPU = (
    16  # images that one thread computes at once: so few that the processor's caches hold them
)
CHUNK_ACCELERATOR = 256
ROWS = 1024  # of an entry of the cache, a multiple of CHUNK_CPU; 205 MB of ResNet18's layer3
# So many numbers (2 GB) may the outputs of a training epoch have to be kept: where the cache has no
# room, they are held in memory. Beyond, they are computed batch by batch, which may change last
# bits; so this depends on the data and the recipe alone, never on the cache.
LARGEST_EPOCH = 5 * 10**8


class Settings(Protocol):
    """The settings of an approach that its frozen beginning depends on."""

    @property
    def initial(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def crop(self) -> int: ...


Batch = Callable[[np.ndarray], Tensor]  # the network's input for some rows of a split


@dataclass(frozen=True)
class Part:
    """A part of the frozen beginning, from the pixels or the part before it to a place.

    Attributes:
        network: fused, in eval mode, on its device.
        module: where the part ends, for people.
        values: numbers that it gives for one image.
        digest: SHA-256 of all operations and weights from the pixels to the place.
        precision: of the network.
    """

    network: nn.Module
    module: str
    values: int
    digest: str
    precision: str


@dataclass(frozen=True)
class FrozenBeginning:
    """All of a network before the place where its trained part begins.

    Attributes:
        parts: in order; none if training starts from the pixels.
        end: position in the network's graph, 0 for the pixels.
    """

    parts: list[Part]
    end: int


def frozen_beginning(
    model: nn.Module,
    trained: Collection[str],
    others: Collection[Collection[str]],
    settings: Settings,
    device: torch.device,
) -> FrozenBeginning:
    """The frozen beginning of a network, ready to run.

    It ends at the last place before any trained module, if what passes there is smaller than the
    image: to keep more than the image itself would gain nothing. It is cut into parts where other
    approaches' frozen beginnings end, so that what they share is stored once; where it is cut
    changes no bit of the outputs. Random weights have none: they are shared with nothing.

    Args:
        trained: names of the trained modules.
        others: the same of the other approaches with the same views and precision.
        settings: initial, precision, crop; of a recipe or of a model's file.
    """
    end = frozen_place(model, trained) if settings.initial == "backbone" else None
    if end is None:
        return FrozenBeginning([], 0)
    earlier = {place for names in others if (place := frozen_place(model, names))}
    places = {place for place in earlier if place.position < end.position} | {end}
    sizes = {place: values_at(model, place, settings.crop) for place in places}
    small = [place for place in places if sizes[place] < 3 * settings.crop**2]
    if end not in small:
        return FrozenBeginning([], 0)

    parts = []
    start = 0
    for place in sorted(small, key=lambda place: place.position):
        network = fuse_frozen(section(model, start, place.position)).to(device)
        network = set_precision(network, settings.precision, device)
        digest = _digest(model, place)
        parts.append(Part(network, place.module, sizes[place], digest, settings.precision))
        start = place.position
    return FrozenBeginning(parts, start)


def _digest(model: nn.Module, place: Place) -> str:
    """SHA-256 of a network's operations and weights from the pixels to a place."""
    beginning = section(model, 0, place.position)
    operations = f"{beginning} {weights_digest(beginning.state_dict())}"  # with strides and so on
    return hashlib.sha256(operations.encode()).hexdigest()


@dataclass(frozen=True)
class Inputs:
    """What the trained part of a network takes: views of a split, or the frozen part's outputs.

    Attributes:
        parts: of the frozen beginning; none if the whole network is run on the views.
    """

    views: Views
    parts: list[Part]
    cache: Cache

    def __len__(self) -> int:
        return len(self.views)

    def epoch(self, epoch: int) -> Batch:
        """The inputs of one epoch, or of evaluation: rows (int64 [n]) to a tensor on the device.

        Any order of the rows gives the same values.
        """
        if not self.parts:
            self.views.prepare()
            return partial(self.views.batch, epoch=epoch)
        if not self._is_stored() or self.parts[-1].values * len(self) > LARGEST_EPOCH:
            self.views.prepare()
            return lambda rows: self._run(self.views.batch(rows, epoch))
        entries = [self._outputs(len(self.parts) - 1, start, epoch) for start in self._starts()]

        def batch(rows: np.ndarray) -> Tensor:
            found = np.stack([entries[row // ROWS][row % ROWS] for row in rows])
            return _as_input(found)

        return batch

    def in_order(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """The inputs of evaluation, a stretch of rows at a time: the rows, and their inputs."""
        if not self.parts or not self._is_stored():
            yield np.arange(len(self)), self.epoch(EVALUATION)
            return
        for start in self._starts():
            outputs = self._outputs(len(self.parts) - 1, start, EVALUATION)
            rows = np.arange(start, start + len(outputs))
            yield rows, partial(_stored_rows, outputs, start)

    def _run(self, views: Tensor) -> Tensor:
        with torch.no_grad():
            for part in self.parts:
                views = part.network(views)
        return views

    def _starts(self) -> range:
        return range(0, len(self), ROWS)

    def _is_stored(self) -> bool:
        """Whether outputs are computed in the order of the split and kept, or batch by batch."""
        return self.views.device.type == "cpu" and not is_shared()

    def _outputs(self, level: int, start: int, epoch: int) -> np.ndarray:
        """What the parts up to ``level`` make of the views from ``start`` on: [<= ROWS, ...].

        float32, or the bits of bfloat16 as uint16 (numpy has no bfloat16).
        """
        stop = min(start + ROWS, len(self))
        part = self.parts[level]
        key = {
            "views": self.views.key(start, stop, epoch),
            "network": part.digest,
            "precision": part.precision,
            "environment": environment(),
            "code": source_digest("pipeline/compute", "pipeline/data", "pipeline/models"),
        }
        if entry := self.cache.get("frozen", key):
            with suppress(OSError):  # another process made room meanwhile
                return entry.array()
        if level == 0:
            self.views.prepare()
            batch: Batch = partial(self.views.batch, epoch=epoch)
        else:
            before = self._outputs(level - 1, start, epoch)
            batch = partial(_stored_rows, before, start)
        rows = chunks(start, stop, CHUNK_CPU)
        outputs = _joined(run_on_threads(part.network, batch, rows), stop - start)
        what = {"epoch": epoch, "split": self.views.pixels.split.name, "module": part.module}
        self.cache.put("frozen", key, outputs, what)
        return outputs


def run_on_threads(network: nn.Module, batch: Batch, rows: list[np.ndarray]) -> Iterator[Tensor]:
    """What ``network`` makes of each chunk of ``rows``, in order, without gradients, on the CPU.

    Each thread computes a chunk of its own: the same bits as all threads on one chunk, and a sixth
    faster (ResNet18 up to layer3 on 2 cores).
    """

    def compute(chunk: np.ndarray) -> Tensor:
        torch.set_num_threads(1)  # of this worker
        with torch.inference_mode():
            return network(batch(chunk))

    return parallel_map(compute, rows, torch.get_num_threads())


def logits(network: nn.Module, inputs: Inputs, title: str | None = None) -> Tensor:
    """Logits of every image of a split in evaluation, in order: float32 [n, classes] on the CPU.

    Several processes take the chunks in turn; all get the logits.

    Args:
        network: what follows the inputs, in eval mode, on their device.
        title: of the progress to show; None to show none.
    """
    # One buffer, because small tensors that stay between large ones that go fragment the heap: by
    # gigabytes at 100,000 images.
    values = bytearray()
    outputs: Iterator[Tensor] = (
        chunk
        for rows, batch in inputs.in_order()
        for chunk in _in_chunks(network, batch, rows, inputs.views.device)
    )
    if title:
        outputs = progress(outputs, len(inputs), title, count=len)
    for chunk in outputs:
        values += chunk.float().cpu().numpy().tobytes()
    found = torch.frombuffer(values, dtype=torch.float32) if is_first() else torch.empty(0)
    return broadcast(found.view(len(inputs), -1) if is_first() else found)


def _in_chunks(
    network: nn.Module, batch: Batch, rows: np.ndarray, device: torch.device
) -> Iterator[Tensor]:
    """Outputs of ``network`` for ``rows`` (ascending, without gaps), a chunk at a time."""
    is_cpu = device.type == "cpu"
    size = CHUNK_CPU if is_cpu else CHUNK_ACCELERATOR
    every = chunks(int(rows[0]), int(rows[-1]) + 1, size)
    own = own_parts(every)
    if is_cpu:
        return gather_in_order(run_on_threads(network, batch, own), len(every))

    def compute(inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(inputs).float().cpu()

    return gather_in_order(map(compute, parallel_map(batch, own, workers=4)), len(every))


def _joined(outputs: Iterator[Tensor], count: int) -> np.ndarray:
    """``count`` rows of outputs in one array; bfloat16 as uint16."""
    joined = np.empty(0)
    filled = 0
    for block in outputs:
        rows = (block.view(torch.uint16) if block.dtype == torch.bfloat16 else block).numpy()
        if not filled:
            joined = np.empty((count, *rows.shape[1:]), rows.dtype)
        joined[filled : filled + len(rows)] = rows
        filled += len(rows)
    return joined


def _stored_rows(outputs: np.ndarray, start: int, rows: np.ndarray) -> Tensor:
    """The ``rows`` of a split, of which ``outputs`` are those from ``start`` on."""
    return _as_input(outputs[rows - start])


def _as_input(outputs: np.ndarray) -> Tensor:
    """Rows of what :func:`_joined` gave (a copy of them), as a network takes them; on the CPU."""
    tensor = torch.from_numpy(np.asarray(outputs))
    tensor = tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
