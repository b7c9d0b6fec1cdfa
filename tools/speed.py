"""How long an image takes here: decoded, and computed by each approach, in a few seconds."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.base.errors import UserError
from pipeline.base.parallel import cpu_workers, parallel_map
from pipeline.compute.device import set_precision, setup_torch
from pipeline.data.images import decode, resize
from pipeline.data.views import chunks
from pipeline.models.freezing import PartlyTrained, resolve_learning_rates, section
from pipeline.models.frozen import CHUNK_CPU, Part, frozen_beginning, run_on_threads
from pipeline.models.networks import new_network
from pipeline.params import Approach, Params, Recipe
from pipeline.training.fit import new_optimizer
from stages._inputs import trained_by_others

Result = TypeVar("Result")

CLASSES = 10  # of the head, which takes no time
BATCH = 16  # images of a training step: enough for its rate, and so few that it takes a second
WARM_UP = 2  # images for which everything is set up


@dataclass(frozen=True)
class PartRate:
    """A part of the frozen beginning of an approach.

    Attributes:
        name: of where it ends, and of the views that it sees.
        seconds: for an image.
        values: bytes of its outputs for an image.
    """

    name: str
    seconds: float
    values: int


@dataclass(frozen=True)
class Rates:
    """What an approach takes for an image of training, in seconds.

    Attributes:
        step: to train what is not frozen: forwards, backwards, and its share of an update.
        rest: to evaluate what is not frozen.
        larger: pixels of an image of evaluation, for each of one of training.
    """

    parts: list[PartRate]
    step: float
    rest: float
    larger: float = 1.0


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        decode: seconds to decode and resize an image on all threads, by its short side.
        rates: of each approach.
        backbone: of the backbone, up to its head.
        weights: bytes of a model.
        memory: bytes that this process took at most.
        keeps_outputs: whether outputs of frozen layers are kept, as on a CPU.
    """

    decode: dict[int, float]
    rates: dict[str, Rates]
    backbone: Rates
    weights: int
    memory: int
    keeps_outputs: bool


def measure(params: Params, samples: Sequence[bytes]) -> Speed:
    """Decode ``samples`` (encoded images), and let each approach compute a batch."""
    device = setup_torch(params.runtime.device, params.threads)
    backbone = Approach(learning_rates={"head": 1.0}, initial="backbone").recipe(params.train)
    recipes = {name: approach.recipe(params.train) for name, approach in params.approaches.items()}
    sides = {recipe.resize for recipe in (backbone, *recipes.values())}
    model = new_network(params.backbone.network, None, CLASSES, seed=0)
    unit = 1 if sys.platform == "darwin" else 1024
    return Speed(
        decode={side: _decoding(params, samples, side) for side in sorted(sides)},
        rates={name: _rates(params, recipe, device) for name, recipe in recipes.items()},
        backbone=_rates(params, backbone, device),
        weights=sum(tensor.nbytes for tensor in model.state_dict().values()),
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        keeps_outputs=device.type == "cpu",
    )


def _decoding(params: Params, samples: Sequence[bytes], side: int) -> float:
    def decode_one(encoded: bytes) -> None:
        try:
            resize(decode(encoded, "a sample"), side)
        except UserError:  # the run says so
            return

    start = time.perf_counter()
    for _ in parallel_map(decode_one, samples, cpu_workers(params.runtime.workers)):
        pass
    return (time.perf_counter() - start) / max(1, len(samples))


def _rates(params: Params, recipe: Recipe, device: torch.device) -> Rates:
    """Those of an approach, set up as stages/train.py does, with random weights."""
    model = new_network(params.backbone.network, None, CLASSES, seed=0).to(device)
    rates = resolve_learning_rates(model, recipe.learning_rates, "approaches")
    network = PartlyTrained(model, rates, "approaches")
    others = trained_by_others(params, recipe, model)
    frozen = frozen_beginning(model, rates, others, recipe, device)
    rest = section(model, frozen.end, None)
    network.trainable_part = set_precision(rest, recipe.precision, device)
    network.trainable_part.to(memory_format=torch.channels_last)

    count = CHUNK_CPU * params.threads
    side = recipe.training_side
    inputs = torch.rand(count, 3, side, side, device=device)
    inputs = inputs.to(memory_format=torch.channels_last)
    views = f"{recipe.initial} {recipe.resize} {side} {recipe.crop} {recipe.flip}"
    parts = []
    for part in frozen.parts:
        seconds, inputs = _timed(partial(_run, part), inputs)
        name = f"{part.module} of {views} {recipe.precision}"
        parts.append(PartRate(name, seconds / count, inputs[0].nbytes))
    step = _step(network, inputs[:BATCH], recipe)
    return Rates(parts, step, _evaluation(network, inputs), larger=(recipe.crop / side) ** 2)


def _run(part: Part, images: Tensor) -> Tensor:
    """The outputs of a frozen part, computed as a run does."""
    if images.device.type != "cpu":
        with torch.no_grad():
            return part.network(images)
    rows = chunks(0, len(images), CHUNK_CPU)
    return torch.cat(list(run_on_threads(part.network, lambda some: images[some], rows)))


def _step(network: PartlyTrained, inputs: Tensor, recipe: Recipe) -> float:
    optimizer = new_optimizer(network)
    network.train()

    def gradients(images: Tensor) -> None:
        optimizer.zero_grad()
        labels = torch.arange(len(images), device=images.device) % CLASSES
        cross_entropy(network(images).float(), labels).backward()

    # A copy, for outputs of inference mode know no gradients.
    computing, _ = _timed(gradients, inputs.clone())
    optimizer.step()  # the first one sets up its state
    updating, _ = _timed(lambda _: optimizer.step(), inputs)
    network.eval()
    return computing / len(inputs) + updating / recipe.batch_size


def _evaluation(network: PartlyTrained, inputs: Tensor) -> float:
    def evaluate(images: Tensor) -> None:
        with torch.inference_mode():
            network(images)

    seconds, _ = _timed(evaluate, inputs)
    return seconds / len(inputs)


def _timed(function: Callable[[Tensor], Result], images: Tensor) -> tuple[float, Result]:
    """Seconds that ``function`` takes for ``images`` after a few of them, and its result."""
    function(images[:WARM_UP])
    _wait()
    start = time.perf_counter()
    result = function(images)
    _wait()
    return time.perf_counter() - start, result


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
