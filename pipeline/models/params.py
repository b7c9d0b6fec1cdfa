"""Schema of params.yaml: backbone, precision, features."""

from typing import Literal

from pipeline.base.schema import Name, Section, Text

Precision = Literal["fp32", "tf32", "bf16"]
Features = dict[Name, Name]


class Backbone(Section):
    network: Text
    path: Text
