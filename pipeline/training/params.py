"""Schema of params.yaml: train, approaches."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.schema import Count, Fraction, Name, Rate, Section, Seed
from pipeline.data.params import ResizedCrop
from pipeline.models.params import Precision

BatchSize = Annotated[int, Field(strict=True, ge=2)]  # BatchNorm in training needs two
Epochs = Annotated[int, Field(strict=True, ge=0)]
Schedule = Literal["constant", "cosine"]


class Train(Section):
    seed: Seed
    images_per_class: Literal["all"] | Count
    epochs: Count
    batch_size: BatchSize
    weight_decay: Fraction
    schedule: Schedule
    warm_up: Epochs
    label_smoothing: Fraction


class Approach(Section):
    """Keys that may be left out: those of train and precision are as said there; the other three are not done."""

    initial: Literal["backbone", "random"]
    input: Name
    learning_rates: Annotated[dict[str, Rate], Field(min_length=1)]
    resized_crop: ResizedCrop | None = None
    flip_averaging: bool | None = None
    pooled: Annotated[list[str], Field(min_length=1)] | None = None
    precision: Precision | None = None
    epochs: Count | None = None
    batch_size: BatchSize | None = None
    weight_decay: Fraction | None = None
    schedule: Schedule | None = None
    warm_up: Epochs | None = None
    label_smoothing: Fraction | None = None
