"""Schema of params.yaml: train, approaches."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.schema import Count, Name, Rate, Section, Seed


class Train(Section):
    seed: Seed
    images_per_class: Literal["all"] | Count
    epochs: Count
    batch_size: Annotated[int, Field(strict=True, ge=2)]  # BatchNorm in training needs two


class Approach(Section):
    initial: Literal["backbone", "random"]
    input: Name
    learning_rates: Annotated[dict[str, Rate], Field(min_length=1)]
