"""Schema of params.yaml: published, explain, plots."""

from typing import Annotated

from pydantic import Field

from pipeline.base.schema import Fraction, Section


class Published(Section):
    val_accuracy: Fraction
    val_loss: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    test_accuracy: Fraction


Images = Annotated[int, Field(strict=True, ge=0, le=16)]  # of one rule: Matplotlib draws at most 65,535 pixels


class Explain(Section):
    mistakes: Images
    disagreements: Images
    typical: Images


class Plots(Section):
    dpi: Annotated[int, Field(strict=True, ge=30, le=600)]
