"""The schema of params.yaml: every key, its type and range.

Anything else is refused before work starts. The schema refuses values and changes none, so no stage
depends on this file: a stage gets its values from stages/__main__.py, and dvc.yaml declares which.
"""

import codecs
import re
import reprlib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML

from pipeline.base.errors import UserError

# Strict: text and true are not numbers.
Count = Annotated[int, Field(strict=True, ge=1)]
Threads = Annotated[int, Field(strict=True, ge=1, le=256)]
Side = Annotated[int, Field(strict=True, ge=16, le=4096)]  # of an image, pixels
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Rate = Annotated[float, Field(strict=True, gt=0, le=10, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]


class Section(BaseModel):
    """A part of params.yaml: a key without a default is required, an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# Where images and backbone come from.

Checksum = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{8,64})$")]
Share = Annotated[float, Field(strict=True, gt=0, lt=0.5)]


class Mirror(Section):
    """A source whose bytes are others, such as the same weights in another format."""

    url: Text
    checksum: Checksum


class File(Section):
    """One file to download."""

    url: Text | Annotated[list[Text | Mirror], Field(min_length=1)]
    checksum: Checksum
    path: Annotated[str, Field(pattern=r"^data(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$")]

    @property
    def sources(self) -> list[tuple[str, str]]:
        """URL and checksum of each source, in order."""
        sources = self.url if isinstance(self.url, list) else [self.url]
        return [
            (source, self.checksum) if isinstance(source, str) else (source.url, source.checksum)
            for source in sources
        ]


class DrawnImages(Section):
    seed: Seed
    species: Annotated[int, Field(strict=True, ge=2)]
    train_per_species: Count
    val_per_species: Count
    test_per_species: Count
    size: Side


class Draw(Section):
    """`draw: {}` draws nothing."""

    images: DrawnImages | None = None


class Shares(Section):
    val: Share
    test: Share
    seed: Seed


class Columns(Section):
    """Columns of a table of labels, where they are not found by themselves."""

    image: Text | None = None
    label: Text | None = None
    split: Text | None = None
    group: Text | None = None


class Images(Section):
    source: Literal["flowers102", "indexed", "folder"]
    path: Text
    table: Text = "auto"
    columns: Columns = Columns()
    class_folder: Literal["outermost", "innermost"] = "outermost"
    groups: Literal["none", "folder"] = "none"
    encoding: Text | None = None
    unreadable: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.05
    split: Shares

    @field_validator("encoding")
    @classmethod
    def encoding_is_known(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                codecs.lookup(name)
            except LookupError:
                raise ValueError(f"{name!r} is no encoding that Python knows") from None
        return name


Mean = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Std = Annotated[float, Field(strict=True, ge=1e-3, allow_inf_nan=False)]


class Backbone(Section):
    network: Text
    path: Text
    mean: Annotated[list[Mean], Field(min_length=3, max_length=3)]
    std: Annotated[list[Std], Field(min_length=3, max_length=3)]


# How an approach is trained.

Precision = Literal["fp32", "tf32", "bf16"]
Initial = Literal["backbone", "random"]
Schedule = Literal["constant", "cosine"]
Fit = Literal["crop", "pad"]
ClassWeights = Literal["none", "balanced"]
Keep = Literal["last", "best"]
BatchSize = Annotated[int, Field(strict=True, ge=2)]  # BatchNorm in training needs two
Epochs = Annotated[int, Field(strict=True, ge=0)]
LearningRates = Annotated[dict[str, Rate], Field(min_length=1)]


def is_colour(mean: list[float]) -> bool:
    """Whether a mean of RGB in 0..1 is a colour, with which images can be padded."""
    return all(0 <= channel <= 1 for channel in mean)


class Settings(Section):
    """What an approach may say for itself; what it does not say, `train` says."""

    initial: Initial
    resize: Side
    crop: Side
    fit: Fit
    flip: Fraction
    train_crop: Side | None
    flip_averaging: Annotated[bool, Field(strict=True)]
    precision: Precision
    epochs: Count
    batch_size: BatchSize
    schedule: Schedule
    warm_up: Epochs
    label_smoothing: Fraction
    class_weights: ClassWeights
    keep: Keep

    @property
    def training_side(self) -> int:
        """Of the squares that training sees, pixels; ``crop`` is that of evaluation's."""
        return self.train_crop or self.crop


class Train(Settings):
    seed: Seed
    images_per_class: Literal["all"] | Count


class Recipe(Train):
    """Everything that says how one approach is trained."""

    learning_rates: LearningRates

    @model_validator(mode="after")
    def fits_together(self) -> "Recipe":
        if self.crop > self.resize:
            raise ValueError(f"crop = {self.crop} must not be larger than resize = {self.resize}")
        if self.training_side > self.resize:
            raise ValueError(
                f"train_crop = {self.train_crop} must not be larger than resize = {self.resize}"
            )
        if self.warm_up >= self.epochs:
            raise ValueError(f"warm_up = {self.warm_up} must be less than epochs = {self.epochs}")
        return self

    def has_views_of(self, other: "Recipe") -> bool:
        """Whether a frozen beginning gives the same outputs in both recipes, as far as it goes."""
        settings = {"initial", "resize", "crop", "fit", "flip", "precision"}
        are_equal = self.model_dump(include=settings) == other.model_dump(include=settings)
        return are_equal and self.training_side == other.training_side


class Approach(Section):
    """An approach: which modules it trains, and the settings in which it differs from `train`."""

    learning_rates: LearningRates
    initial: Initial | None = None
    resize: Side | None = None
    crop: Side | None = None
    fit: Fit | None = None
    flip: Fraction | None = None
    train_crop: Side | None = None
    flip_averaging: Annotated[bool, Field(strict=True)] | None = None
    precision: Precision | None = None
    epochs: Count | None = None
    batch_size: BatchSize | None = None
    schedule: Schedule | None = None
    warm_up: Epochs | None = None
    label_smoothing: Fraction | None = None
    class_weights: ClassWeights | None = None
    keep: Keep | None = None

    def recipe(self, train: Train) -> Recipe:
        """What this approach says, and for the rest what ``train`` says."""
        return Recipe(**(train.model_dump() | self.model_dump(exclude_unset=True)))


# What is shown.


class Published(Section):
    val_accuracy: Fraction
    val_loss: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    test_accuracy: Fraction


ImagesOfRule = Annotated[int, Field(strict=True, ge=0, le=16)]  # Matplotlib draws 65,535 pixels


class Explain(Section):
    mistakes: ImagesOfRule
    disagreements: ImagesOfRule
    typical: ImagesOfRule


class Plots(Section):
    dpi: Annotated[int, Field(strict=True, ge=30, le=600)]


class Runtime(Section):
    device: Literal["auto", "cuda", "mps", "cpu"]
    launch: str
    workers: Literal["auto"] | Annotated[int, Field(strict=True, ge=1, le=256)]
    cache: Annotated[float, Field(strict=True, ge=0, le=1e6)]


class Dataset(Section):
    name: Text
    url: str
    license: Text
    terms: str


class Params(Section):
    """The whole of params.yaml."""

    download: dict[Name, File]
    draw: Draw
    images: Images
    backbone: Backbone
    threads: Threads
    train: Train
    approaches: Annotated[dict[Name, Approach], Field(min_length=1)]
    sure: Annotated[float, Field(strict=True, gt=0, lt=1)]
    known: Annotated[float, Field(strict=True, gt=0, le=1)]
    dataset: Dataset
    export: list[Name]
    onnx_opset: Annotated[int, Field(strict=True, ge=18, le=23)]
    published: dict[Name, Published]
    explain: Explain
    plots: Plots
    runtime: Runtime

    @model_validator(mode="after")
    def fits_together(self) -> "Params":
        if faults := list(self._contradictions()):
            raise ValueError("\n".join(faults))
        return self

    def _contradictions(self) -> Iterator[str]:
        """What one section says against another, a line each: key, value, what is allowed."""
        for name, approach in self.approaches.items():
            try:
                recipe = approach.recipe(self.train)
                if recipe.fit == "pad" and not is_colour(self.backbone.mean):
                    yield (
                        f"approaches.{name}: fit = pad needs a backbone.mean of 0 to 1, which "
                        f"{self.backbone.mean} is not: it is the colour of the canvas"
                    )
            except ValidationError as error:
                for fault in error.errors():
                    key = ".".join(["approaches", name, *map(str, fault["loc"])])
                    yield f"{key}: {str(fault['msg']).removeprefix('Value error, ')}"
        for key, names in (("export", self.export), ("published", list(self.published))):
            for name in names:
                if name not in self.approaches:
                    known = ", ".join(self.approaches)
                    yield f"{key} = {names}: approaches has no {name!r}; it has {known}"
            if len(set(names)) < len(names):
                yield f"{key} = {names}: a name stands twice"


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds, read as DVC reads it.

    That is YAML 1.2: 1e-3 is a number, 010 is ten; a repeated key is refused.

    Raises:
        UserError: not readable as YAML.
    """
    try:
        return YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the project's root") from None
    except Exception as error:  # ruamel raises whatever the text leads it into
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def load_params(path: str | Path) -> Params:
    """Read and check params.yaml.

    Raises:
        UserError: not readable as YAML, or a key is unknown, missing, of the wrong type or out of
            range; the text has one line per fault with the key, the value and what is allowed.
    """
    try:
        return Params.model_validate(read_yaml(path))
    except ValidationError as error:
        reasons: dict[str, list[str]] = {}  # a value of two allowed kinds has one fault for each
        for line in _explained(error):
            key, _, reason = line.partition(": ")
            reasons.setdefault(key, []).append(reason)
        lines = [f"{path}: {key}: {'; or '.join(why)}" for key, why in reasons.items()]
        raise UserError("\n       ".join(lines)) from None


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2


def _explained(error: ValidationError) -> Iterator[str]:
    """The faults that pydantic found, a line each: key (with its value), what is allowed."""
    missing = [fault["loc"] for fault in error.errors() if fault["type"] == "missing"]
    for fault in error.errors():
        kind = fault["type"]
        message = str(fault["msg"]).removeprefix("Value error, ")
        place = fault["loc"]
        # pydantic adds the branch of a union to the location; it is not a key of the file.
        branch = re.compile(r"constrained-|literal\[|list\[|Mirror$")
        parts = [str(part) for part in place if not branch.match(str(part))]
        key = ".".join(part if part.isprintable() else repr(part) for part in parts)
        key = key or "(top level)"
        if kind == "extra_forbidden":
            near = [str(other[-1]) for other in missing if other[:-1] == place[:-1]]
            meant = get_close_matches(str(place[-1]), near or _known_keys(str(place[-1])), 1)
            hint = f"did you mean {meant[0]}?" if meant else "params.yaml's comments list the keys"
            yield f"{key}: unknown key; {hint}"
        elif kind == "missing":
            yield f"{key}: missing"
        elif kind == "value_error":
            yield from [f"{key}: {message}"] if parts else message.splitlines()
        else:
            expected = "must be a section, with keys of its own"
            what = expected if kind == "model_type" else message
            try:
                yield f"{key} = {_SHORT.repr(fault['input'])}: {what}"  # aliases make long values
            except ValueError:  # thousands of digits, which Python does not print
                yield f"{key}: {what}"


def _known_keys(unknown: str) -> set[str]:
    """Every key of every section but the ``unknown`` one itself."""
    sections = [*Section.__subclasses__(), *Settings.__subclasses__()]
    return {name for section in sections for name in section.model_fields} - {unknown}
