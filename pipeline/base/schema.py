"""The types that the schema of params.yaml is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Strict: text and true are no numbers.
Count = Annotated[int, Field(strict=True, ge=1)]
Threads = Annotated[int, Field(strict=True, ge=1, le=256)]
Side = Annotated[int, Field(strict=True, ge=16, le=4096)]  # of an image, pixels
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Rate = Annotated[float, Field(strict=True, gt=0, le=10, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]


class Section(BaseModel):
    """A part of params.yaml: every key is required, any other is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
