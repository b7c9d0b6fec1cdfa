"""The schema of params.yaml as a whole: every key, its type and range. Anything else is refused before work starts.

The schema refuses values and changes none, so no stage depends on it: a stage gets its values from
stages/__main__.py, and dvc.yaml declares which.
"""

import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML

from pipeline.base.errors import UserError
from pipeline.base.schema import Name, Section, Threads
from pipeline.data.params import Transforms
from pipeline.models.params import Backbone, Features, Precision
from pipeline.report.params import Explain, Plots, Published
from pipeline.sources.params import Draw, File, Images
from pipeline.training.params import Approach, Train

SHORT = reprlib.Repr()
SHORT.maxlevel = 2


class Runtime(Section):
    device: Literal["auto", "cuda", "mps", "cpu"]
    workers: Literal["auto"] | Annotated[int, Field(strict=True, ge=1, le=256)]


class Params(Section):
    download: dict[Name, File]
    draw: Draw
    images: Images
    backbone: Backbone
    transforms: Transforms
    threads: Threads
    precision: Precision
    features: Features
    alike: list[Name]
    train: Train
    approaches: Annotated[dict[Name, Approach], Field(min_length=1)]
    export: list[Name]
    published: dict[Name, Published]
    explain: Explain
    plots: Plots
    runtime: Runtime

    @model_validator(mode="after")
    def inputs_exist(self) -> "Params":
        known = ["pixels", *self.features]
        for module, start in self.features.items():  # DVC refuses circles
            if start not in known:
                raise ValueError(f"features.{module} = {start!r}: one of {', '.join(known)}")
        for name, approach in self.approaches.items():
            if approach.input not in known:
                raise ValueError(f"approaches.{name}.input = {approach.input!r}: one of {', '.join(known)}")
            if approach.initial == "random" and approach.input != "pixels":
                raise ValueError(f"approaches.{name}.input = {approach.input!r}: with initial = random only pixels")
        for name in self.alike:
            if name not in self.features:
                raise ValueError(f"alike = {self.alike}: no features {name!r}; [] or of {', '.join(self.features)}")
        for name in self.export:
            if name not in self.approaches:
                raise ValueError(f"export = {self.export}: no approach {name!r}; one of {', '.join(self.approaches)}")
        return self


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds, read as DVC reads it (YAML 1.2: 1e-3 is a number, 010 is ten; a repeated key is refused).

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
        UserError: not readable as YAML, or a key is unknown, missing, of the wrong type or out of range; the
            text has one line per fault with the key, the value and what is allowed.
    """
    try:
        return Params.model_validate(read_yaml(path))
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
    parts = [str(part) for part in fault["loc"] if not str(part).startswith(("constrained-", "literal["))]
    location = [part if part.isprintable() else repr(part) for part in parts]
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
    try:
        return f"{key} = {SHORT.repr(fault['input'])}", fault["msg"]  # cut short: aliases make values of any size
    except ValueError:  # thousands of digits, which Python prints of no number
        return key, fault["msg"]
