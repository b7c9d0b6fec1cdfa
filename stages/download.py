"""Fetch one file, and believe it only if its checksum fits."""

from pipeline.base.errors import choose
from pipeline.base.files import atomic
from pipeline.params import Params
from pipeline.sources.download import fetch


def main(params: Params, name: str) -> None:
    file = choose(params.download, name, "download")
    with atomic(file.path) as (path,):
        fetch(file.url, file.checksum, path, f"download.{name}")
