"""Schema of params.yaml: transforms."""

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.base.schema import Fraction, Section, Side

Mean = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Std = Annotated[float, Field(strict=True, ge=1e-3, allow_inf_nan=False)]


class Size(Section):
    resize: Side
    crop: Side

    @model_validator(mode="after")
    def crop_fits(self) -> "Size":
        if self.crop > self.resize:
            raise ValueError(f"crop = {self.crop} must not be larger than resize = {self.resize}")
        return self


Sizes = dict[Annotated[str, Field(pattern=r"^pixels_[A-Za-z0-9_-]+$")], Size]


class Transforms(Size):
    flip: Fraction
    mean: Annotated[list[Mean], Field(min_length=3, max_length=3)]
    std: Annotated[list[Std], Field(min_length=3, max_length=3)]


class ResizedCrop(Section):
    size: Side
    scale: Annotated[float, Field(strict=True, gt=0, le=1)]
