"""Trained models as files: weights and all that is needed to use them, in safetensors."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from pipeline.base.errors import UserError
from pipeline.base.files import atomic
from pipeline.compute.device import set_precision
from pipeline.data.images import Preprocessing
from pipeline.models.freezing import (
    fuse_frozen,
    section,
    with_flip_averaging,
    with_temperature,
)
from pipeline.models.frozen import FrozenBeginning, frozen_beginning
from pipeline.models.networks import build, load_weights
from pipeline.params import Fit, Initial, Mean, Precision, Side, Std, is_colour


class Header(BaseModel):
    """What is needed to use a model's weights, beside them in the file.

    Attributes:
        approach: its name in params.yaml.
        network: of torchvision.
        classes: names, in the order of the logits.
        resize: short side of an image after resizing, pixels.
        crop: side of the central square, pixels.
        mean, std: subtracted from RGB in 0..1, and divided by.
        fit: crop or pad, as in params.yaml.
        precision, flip_averaging: as in params.yaml.
        initial: backbone or random.
        trained: names of the trained modules; all others are the backbone's.
        parameters: their numbers, total and trainable.
        temperature: the logits are divided by it before softmax (see fit_temperature).
        sure_from: below this probability (0 to 1) the answer is "unsure".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    approach: str
    network: str
    classes: Annotated[list[str], Field(min_length=1)]
    resize: Side
    crop: Side
    mean: Annotated[list[Mean], Field(min_length=3, max_length=3)]
    std: Annotated[list[Std], Field(min_length=3, max_length=3)]
    fit: Fit
    precision: Precision
    flip_averaging: bool
    initial: Initial
    trained: list[str]
    parameters: dict[str, int]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    sure_from: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def fits_together(self) -> "Header":
        if self.crop > self.resize:
            raise ValueError(f"crop = {self.crop} is larger than resize = {self.resize}")
        if self.fit == "pad" and not is_colour(self.mean):
            raise ValueError(f"mean = {self.mean} is no colour to pad with")
        return self


@dataclass(frozen=True)
class TrainedModel:
    """A model of :func:`load_model`: the network in eval mode on the CPU, and its header."""

    network: nn.Module
    header: Header

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes what the network sees."""
        header = self.header
        return Preprocessing(header.resize, header.crop, header.mean, header.std, header.fit)

    def classifier(self, device: torch.device) -> nn.Module:
        """The model as it is used: pixels [n, 3, crop, crop] to calibrated logits [n, classes].

        Softmax of calibrated logits gives probabilities that are right as often as they say.
        """
        network = fuse_frozen(section(self.network, 0, None)).to(device)
        return self._as_used(set_precision(network, self.header.precision, device))

    def exportable(self) -> nn.Module:
        """:meth:`classifier` on the CPU in fp32, without fused layers."""
        return self._as_used(self.network)

    def _as_used(self, network: nn.Module) -> nn.Module:
        averaged = with_flip_averaging(network, self.header.flip_averaging)
        return with_temperature(averaged, self.header.temperature)


def save_model(path: Path, network: nn.Module, header: Header) -> None:
    """Write weights and header as one safetensors file, atomically."""
    state = network.state_dict()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    content = save(tensors, metadata={"model": header.model_dump_json()})
    with atomic(path) as (temporary,):
        temporary.write_bytes(content)


def load_model(path: Path) -> TrainedModel:
    """The model that :func:`save_model` wrote.

    Raises:
        UserError: not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = Header.model_validate_json(file.metadata()["model"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = build(header.network, len(header.classes))
        load_weights(network, state)
    except (
        OSError,
        SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
        UserError,
    ) as error:
        raise UserError(
            f"{path}: not a model of this pipeline ({_reason(error)}); run dvc repro train"
        ) from None
    return TrainedModel(network.eval(), header)


def _reason(error: Exception) -> str:
    """What is wrong, on one line; of several faults of a header the first."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        return f"{key or 'header'}: {fault['msg']}"
    return " ".join(str(error).split())


def split_classifier(
    model: TrainedModel, others: Collection[Collection[str]], device: torch.device
) -> tuple[FrozenBeginning, nn.Module]:
    """:meth:`TrainedModel.classifier` in two: its frozen beginning, and what follows.

    With flip averaging the whole network runs twice on the pixels, so nothing is split off.

    Args:
        others: as for :func:`pipeline.models.frozen.frozen_beginning`.
    """
    header = model.header
    if header.flip_averaging:
        return FrozenBeginning([], 0), model.classifier(device)
    frozen = frozen_beginning(model.network, header.trained, others, header, device)
    rest = fuse_frozen(section(model.network, frozen.end, None)).to(device)
    rest = set_precision(rest, header.precision, device)
    return frozen, with_temperature(rest, header.temperature)
