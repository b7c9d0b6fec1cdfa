"""The schema of params.yaml as a whole: every key, its type and range. Anything else is refused before work starts.

The schema refuses values and changes none, so no stage depends on it: a stage gets its values from
stages/__main__.py, and dvc.yaml declares which.
"""

import re
import reprlib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML

from pipeline.base.errors import UserError
from pipeline.base.schema import Name, Section, Threads
from pipeline.data.params import Sizes, Transforms
from pipeline.models.params import Backbone, Features, Precision
from pipeline.report.params import Explain, Plots, Published
from pipeline.sources.params import Draw, File, Images
from pipeline.training.params import Approach, Train

SHORT = reprlib.Repr()
SHORT.maxlevel = 2


class Runtime(Section):
    device: Literal["auto", "cuda", "mps", "cpu"]
    launch: str
    workers: Literal["auto"] | Annotated[int, Field(strict=True, ge=1, le=256)]


class Params(Section):
    download: dict[Name, File]
    draw: Draw
    images: Images
    backbone: Backbone
    transforms: Transforms
    sizes: Sizes
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
    def fits_together(self) -> "Params":
        if faults := list(self._contradictions()):
            raise ValueError("\n".join(faults))
        return self

    def _contradictions(self) -> Iterator[str]:
        """What one section says against another, a line each: key, value, what is allowed."""
        known = ["pixels", *self.features]
        for module, start in self.features.items():
            if start not in known:
                yield f"features.{module} = {start!r}: one of {', '.join(known)}"
            origin = module
            for _ in self.features:
                origin = self.features.get(origin, origin)
            if origin in self.features:
                yield f"features.{module} = {start!r}: leads round in a circle, and never to pixels"
        pixels = {"pixels": self.transforms.resize} | {name: size.resize for name, size in self.sizes.items()}
        known = [*pixels, *self.features]
        for name, approach in self.approaches.items():
            key, module = f"approaches.{name}.input = {approach.input!r}", approach.input.replace("-", ".")
            yield from self._contradictions_of_recipe(f"approaches.{name}", approach, pixels.get(approach.input))
            trained = [part for part in approach.learning_rates if f"{module}.".startswith(f"{part}.")]
            if approach.input not in known:
                yield f"{key}: one of {', '.join(known)}"
            elif approach.initial == "random" and approach.input not in pixels:
                yield f"{key}: with initial = random only pixels"
            elif trained and module != "head":  # head as features is what goes into the head
                yield f"{key}: {trained[0]} is trained, so its features change; take those of a module before it"
        for key, names, section in (
            ("alike", self.alike, "features"),
            ("export", self.export, "approaches"),
            ("published", self.published, "approaches"),
        ):
            has = getattr(self, section)
            for name in names:
                if name not in has:
                    yield f"{key} = {list(names)}: {section} has no {name!r}; it has {', '.join(has) or 'nothing'}"
            if len(set(names)) < len(names):
                yield f"{key} = {list(names)}: a name stands twice"

    def _contradictions_of_recipe(self, key: str, approach: Approach, resize: int | None) -> Iterator[str]:
        """The same of how one approach is trained, on images of a short side ``resize``, or (None) on features."""
        epochs = approach.epochs or self.train.epochs
        warm_up = self.train.warm_up if approach.warm_up is None else approach.warm_up
        if warm_up >= epochs:
            yield f"{key}: warm_up = {warm_up} must be less than epochs = {epochs}"
        if resize is None and epochs > self.train.epochs:
            yield f"{key}.epochs = {epochs}: features are stored for train.epochs = {self.train.epochs}; take pixels"
        for setting in ("flip_averaging", "pooled"):
            if getattr(approach, setting) and resize is None:
                yield f"{key}.{setting}: needs the whole network, and so input = pixels"
        if approach.resized_crop and resize is None:
            yield f"{key}.resized_crop: features hold the random crops of transforms; take input = pixels"
        elif approach.resized_crop and resize and approach.resized_crop.size > resize:
            yield f"{key}.resized_crop.size = {approach.resized_crop.size}: the images have only {resize} pixels"


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
        for line in explained(error):
            key, _, reason = line.partition(": ")
            faults.setdefault(key, []).append(reason)
        raise UserError(
            "\n       ".join(f"{path}: {key}: {'; or '.join(why)}" for key, why in faults.items())
        ) from None


def explained(error: ValidationError) -> Iterator[str]:
    """The faults that pydantic found, a line each: key (with its value where that is the fault), what is allowed."""
    missing = [fault["loc"] for fault in error.errors() if fault["type"] == "missing"]
    for fault in error.errors():
        kind, message, place = fault["type"], str(fault["msg"]).removeprefix("Value error, "), fault["loc"]
        # pydantic adds the branch of a union to the location ('constrained-int'); it is no key of the file.
        parts = [str(part) for part in place if not re.match(r"constrained-|literal\[|list\[|Mirror$", str(part))]
        key = ".".join(part if part.isprintable() else repr(part) for part in parts) or "(top level)"
        if kind == "extra_forbidden":
            near = [str(other[-1]) for other in missing if other[:-1] == place[:-1]]
            known = {name for section in Section.__subclasses__() for name in section.model_fields} - {str(place[-1])}
            meant = get_close_matches(str(place[-1]), near or known, 1)
            hint = f"did you mean {meant[0]}?" if meant else "the comments in params.yaml tell those that exist"
            yield f"{key}: unknown key; {hint}"
        elif kind == "missing":
            yield f"{key}: missing"
        elif kind == "value_error":
            yield from message.splitlines() if not parts else [f"{key}: {message}"]
        else:
            what = "must be a section, with keys of its own" if kind == "model_type" else message
            try:
                yield f"{key} = {SHORT.repr(fault['input'])}: {what}"  # cut short: aliases make values of any size
            except ValueError:  # thousands of digits, which Python prints of no number
                yield f"{key}: {what}"
