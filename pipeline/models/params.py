"""Schema of params.yaml: backbone, precision, features; and of the header of a model's file."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.schema import Name, Section, Text
from pipeline.data.params import Transforms

Precision = Literal["fp32", "tf32", "bf16"]
Features = dict[Name, Name]


class Backbone(Section):
    network: Text
    path: Text


class Header(Section):
    """What is needed to use a model's weights."""

    approach: str
    network: str
    classes: Annotated[list[str], Field(min_length=1)]
    input: str
    transforms: Transforms
    parameters: dict[str, int]
    flip_averaging: bool = False
    pooled: list[str] | None = None
