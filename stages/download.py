"""Fetch one file, and believe it only if its checksum fits."""

from typing import TYPE_CHECKING

from pipeline.base.errors import choose
from pipeline.base.files import atomic
from pipeline.sources.download import fetch

if TYPE_CHECKING:
    from pipeline.params import Params


def main(params: "Params", name: str) -> None:
    file = choose(params.download, name, "download")
    with atomic(file.path) as (path,):
        fetch(file.url, file.checksum, path, f"download.{name}")
