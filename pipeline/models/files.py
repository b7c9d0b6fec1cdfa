"""Trained models as files: weights and all that is needed to use them, in safetensors."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.base.files import atomic
from pipeline.compute.device import set_precision
from pipeline.data.images import Preprocessing
from pipeline.models.freezing import fuse_frozen, with_features, with_flip_averaging
from pipeline.models.frozen import FrozenBeginning, frozen_beginning
from pipeline.models.known import MOST, Classifier
from pipeline.models.networks import build, head_name, load_weights
from pipeline.params import Fit, Initial, Mean, Precision, Side, Std, is_colour

KNOWN = "known"  # name of the training images' features among the weights
NOTHING = torch.empty(0, 0, dtype=torch.float16)
Verdict = Literal["sure", "unsure", "none of these"]


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
        known_from: below this similarity (-1 to 1) to the training images it is "none of these".
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
    known_from: Annotated[float, Field(ge=-1, le=1)]

    @model_validator(mode="after")
    def fits_together(self) -> "Header":
        if self.crop > self.resize:
            raise ValueError(f"crop = {self.crop} is larger than resize = {self.resize}")
        if self.fit == "pad" and not is_colour(self.mean):
            raise ValueError(f"mean = {self.mean} is no colour to pad with")
        return self

    def verdict(self, probability: float, similarity: float) -> Verdict:
        """How far an answer can be believed.

        Args:
            probability: of the most probable class, 0 to 1.
            similarity: to the training images, -1 to 1.
        """
        if similarity < self.known_from:
            return "none of these"
        return "sure" if probability >= self.sure_from else "unsure"


@dataclass(frozen=True)
class TrainedModel:
    """A model of :func:`load_model`.

    Attributes:
        network: in eval mode on the CPU.
        known: features of training images, float16 [n, values], by
            :func:`pipeline.models.known.keep`; n is 0 if there were too few validation images to
            tell what is unknown.
    """

    network: nn.Module
    header: Header
    known: Tensor = NOTHING

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes what the network sees."""
        header = self.header
        return Preprocessing(header.resize, header.crop, header.mean, header.std, header.fit)

    def classifier(self, device: torch.device) -> Classifier:
        """The model as it is used: takes pixels [n, 3, crop, crop]."""
        network = fuse_frozen(with_features(self.network, 0)).to(device)
        return self._as_used(set_precision(network, self.header.precision, device)).to(device)

    def exportable(self) -> Classifier:
        """:meth:`classifier` on the CPU in fp32, without fused layers."""
        return self._as_used(with_features(self.network, 0)).eval()

    def _as_used(self, network: nn.Module) -> Classifier:
        header = self.header
        averaged = with_flip_averaging(network, header.flip_averaging)
        return Classifier(averaged, len(header.classes), header.temperature, self.known)


def save_model(path: Path, model: TrainedModel) -> None:
    """Write weights, header and training images' features as one safetensors file, atomically."""
    state = model.network.state_dict() | {KNOWN: model.known}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    content = save(tensors, metadata={"model": model.header.model_dump_json()})
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
        known = state.pop(KNOWN)
        load_weights(network, state)
        _check_known(known, network)
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
    return TrainedModel(network.eval(), header, known)


def _check_known(known: Tensor, network: nn.Module) -> None:
    """Refuse features that are not such as the network makes."""
    values = network.get_submodule(head_name(network)).in_features
    is_fit = known.dtype == torch.float16 and known.ndim == 2 and known.shape[1] == values
    if not len(known):
        return
    if not is_fit or len(known) > MOST or not known.isfinite().all():
        raise ValueError(f"{KNOWN}: not features of {values} values, float16")


def _reason(error: Exception) -> str:
    """What is wrong, on one line; of several faults of a header the first."""
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        return f"{key or 'header'}: {fault['msg']}"
    return " ".join(str(error).split())


def split_classifier(
    model: TrainedModel, others: Collection[Collection[str]], device: torch.device
) -> tuple[FrozenBeginning, Classifier]:
    """:meth:`TrainedModel.classifier` in two: its frozen beginning, and what follows.

    With flip averaging the whole network runs twice on the pixels, so nothing is split off.

    Args:
        others: as for :func:`pipeline.models.frozen.frozen_beginning`.
    """
    header = model.header
    if header.flip_averaging:
        return FrozenBeginning([], 0), model.classifier(device)
    frozen = frozen_beginning(model.network, header.trained, others, header, device)
    rest = fuse_frozen(with_features(model.network, frozen.end)).to(device)
    rest = set_precision(rest, header.precision, device)
    return frozen, Classifier(rest, len(header.classes), header.temperature, model.known).to(device)
