"""The schema of params.yaml: every key, its type and range. Anything else is refused before work starts."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.runtime import UserError

Count = Annotated[int, Field(strict=True, ge=1)]
Threads = Annotated[int, Field(strict=True, ge=1, le=256)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
# Not strict: YAML 1.1 (PyYAML) reads 1e-3 as text, YAML 1.2 (DVC) as a number. Both shall mean 0.001.
Rate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Precision = Literal["fp32", "bf16"]
Module = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(Section):
    url: Annotated[str, Field(min_length=1)]
    checksum: Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{8,64})$")]


class DownloadFlowers(Section):
    archive: File
    labels: File
    splits: File


class DownloadBackbone(File):
    network: str


class Download(Section):
    flowers: DownloadFlowers
    backbone: DownloadBackbone


class SyntheticFlowers(Section):
    seed: Seed
    species: Annotated[int, Field(strict=True, ge=2)]
    train_per_species: Count
    val_per_species: Count
    test_per_species: Count
    size: Annotated[int, Field(strict=True, ge=16, le=1024)]


class SyntheticBackbone(Section):
    network: str
    seed: Seed
    species: Annotated[int, Field(strict=True, ge=2)]
    images_per_species: Count
    size: Annotated[int, Field(strict=True, ge=16, le=1024)]
    crop: Annotated[int, Field(strict=True, ge=16, le=1024)]
    epochs: Count
    batch_size: Annotated[int, Field(strict=True, ge=2)]
    learning_rate: Rate
    threads: Threads

    @model_validator(mode="after")
    def crop_fits(self) -> "SyntheticBackbone":
        if self.crop > self.size:
            raise ValueError(f"crop = {self.crop} must not be larger than size = {self.size}")
        return self


class Synthetic(Section):
    flowers: SyntheticFlowers
    backbone: SyntheticBackbone


class Dataset(Section):
    classes: Annotated[int, Field(strict=True, ge=2)]
    train: Count
    val: Count
    test: Count
    class_names: Literal["flowers102", "numbered"]


class Transforms(Section):
    resize: Annotated[int, Field(strict=True, ge=16, le=4096)]
    crop: Annotated[int, Field(strict=True, ge=16, le=4096)]
    flip: Fraction
    mean: Channels
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]

    @model_validator(mode="after")
    def crop_fits(self) -> "Transforms":
        if self.crop > self.resize:
            raise ValueError(f"crop = {self.crop} must not be larger than resize = {self.resize}")
        return self


class Train(Section):
    seed: Seed
    epochs: Count
    batch_size: Annotated[int, Field(strict=True, ge=2)]  # BatchNorm in training needs two


class Approach(Section):
    initial: Literal["backbone", "random"]
    input: Module
    learning_rates: Annotated[dict[str, Rate], Field(min_length=1)]


class Published(Section):
    val_accuracy: Fraction
    val_loss: Annotated[float, Field(ge=0)]
    test_accuracy: Fraction


class Plots(Section):
    dpi: Annotated[int, Field(strict=True, ge=30, le=600)]


class Runtime(Section):
    device: Literal["auto", "cuda", "mps", "cpu"]
    workers: Literal["auto"] | Count


class Params(Section):
    source: Literal["download", "synthetic"]
    download: Download
    synthetic: Synthetic
    dataset: Dataset
    transforms: Transforms
    threads: Threads
    precision: Precision
    features: dict[Module, Module]
    train: Train
    approaches: Annotated[dict[Name, Approach], Field(min_length=1)]
    published: dict[Name, Published]
    plots: Plots
    runtime: Runtime

    @model_validator(mode="after")
    def inputs_exist(self) -> "Params":
        known = ["pixels", *self.features]
        for module, source in self.features.items():  # DVC refuses circles
            if source not in known:
                raise ValueError(f"features.{module} = {source!r}: one of {', '.join(known)}")
        for name, approach in self.approaches.items():
            if approach.input not in known:
                raise ValueError(f"approaches.{name}.input = {approach.input!r}: one of {', '.join(known)}")
            if approach.initial == "random" and approach.input != "pixels":
                raise ValueError(f"approaches.{name}.input = {approach.input!r}: with initial = random only pixels")
        return self

    @property
    def network(self) -> str:
        """The torchvision network of the active source."""
        return (self.download if self.source == "download" else self.synthetic).backbone.network


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml.

    Raises:
        UserError: not readable as YAML, or a key is unknown, missing, of the wrong type or out of range; the
            text has one line per fault with the key, the value and what is allowed.
    """
    try:
        return Params.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; run from the project's root") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        faults: dict[str, list[str]] = {}  # a value of two allowed kinds has one fault for each
        for fault in error.errors():
            key, reason = _explain(fault)
            faults.setdefault(key, []).append(reason)
        raise UserError(
            "\n       ".join(f"{path}: {key}: {'; or '.join(why)}" for key, why in faults.items())
        ) from None


def _explain(fault: ErrorDetails) -> tuple[str, str]:
    """One fault that pydantic found: the key (with its value where that is the fault), and what is allowed."""
    # pydantic adds the branch of a union to the location ('constrained-int'); it is no key of the file.
    location = [str(part) for part in fault["loc"] if not str(part).startswith(("constrained-", "literal["))]
    key = ".".join(location) or "(top level)"
    if fault["type"] == "extra_forbidden":
        return key, "unknown key; the comments in params.yaml tell those that exist"
    if fault["type"] == "missing":
        return key, "missing"
    if fault["type"] == "value_error":
        if not location:  # a fault between two sections; its text begins with the key
            key, _, reason = str(fault["msg"]).removeprefix("Value error, ").partition(": ")
            return key, reason
        return key, str(fault["msg"]).removeprefix("Value error, ")
    return f"{key} = {fault['input']!r}", fault["msg"]
