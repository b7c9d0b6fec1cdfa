"""Schema of params.yaml: backbone, precision, features."""

from typing import Literal

from pipeline.base.schema import Module, Section, Text

Precision = Literal["fp32", "bf16"]
Features = dict[Module, Module]


class Backbone(Section):
    network: Text
    path: Text
