"""Schema of params.yaml: download, draw, images."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.base.schema import Count, Rate, Section, Seed, Side, Text, Threads

Checksum = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{8,64})$")]
Share = Annotated[float, Field(strict=True, gt=0, lt=0.5)]


class Mirror(Section):
    """A source whose bytes are others, such as the same weights in another format."""

    url: Text
    checksum: Checksum


class File(Section):
    url: Text | Annotated[list[Text | Mirror], Field(min_length=1)]
    checksum: Checksum
    path: Annotated[str, Field(pattern=r"^data(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$")]

    @property
    def sources(self) -> list[tuple[str, str]]:
        """URL and checksum of each source, in order."""
        sources = self.url if isinstance(self.url, list) else [self.url]
        return [
            (source, self.checksum) if isinstance(source, str) else (source.url, source.checksum) for source in sources
        ]


class DrawnImages(Section):
    seed: Seed
    species: Annotated[int, Field(strict=True, ge=2)]
    train_per_species: Count
    val_per_species: Count
    test_per_species: Count
    size: Side


class DrawnBackbone(Section):
    network: str
    seed: Seed
    species: Annotated[int, Field(strict=True, ge=2)]
    images_per_species: Count
    size: Side
    crop: Side
    epochs: Count
    batch_size: Annotated[int, Field(strict=True, ge=2)]
    learning_rate: Rate
    threads: Threads

    @model_validator(mode="after")
    def crop_fits(self) -> "DrawnBackbone":
        if self.crop > self.size:
            raise ValueError(f"crop = {self.crop} must not be larger than size = {self.size}")
        return self


class Draw(Section):
    """Both keys may be left out: `draw: {}` draws nothing."""

    images: DrawnImages | None = None
    backbone: DrawnBackbone | None = None


class Shares(Section):
    val: Share
    test: Share
    seed: Seed


class Images(Section):
    source: Literal["flowers102", "indexed", "folder"]
    path: Text
    split: Shares
