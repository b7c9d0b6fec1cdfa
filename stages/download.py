"""Download one file, and keep it only if its checksum is right."""

from pathlib import Path

from pipeline.base.errors import UserError, choose, print_note
from pipeline.base.files import atomic, clone_of
from pipeline.params import Params
from pipeline.sources.download import UnreachableError, fetch

# Unfinished downloads, and files that people bring. Not in data/: DVC empties the places of outs.
DOWNLOADS = "downloads"


def main(params: Params, name: str) -> None:
    file = choose(params.download, name, "download")
    brought = clone_of(Path.cwd()) / DOWNLOADS / Path(file.path).relative_to("data")
    sources = file.sources
    if brought.exists():  # it may be the file of any source, and one has another checksum
        checksums = dict.fromkeys(checksum for _, checksum in sources)
        sources = [(str(brought), checksum) for checksum in checksums] + sources
    partial = brought.with_name(f"{brought.name}.part")
    try:
        with atomic(file.path) as (path,):
            fetch(sources, path, partial, f"download.{name}", print_note)
    except UnreachableError as error:
        raise UserError(f"{error}. {advice_without_network(params)}") from None


def advice_without_network(params: Params) -> str:
    files = [
        f"{file.sources[0][0]} as {Path(file.path).relative_to('data')}"
        for file in params.download.values()
    ]
    return (
        f"Without a network, bring {', '.join(files)} into {clone_of(Path.cwd()) / DOWNLOADS}; "
        "or try make demo, which needs none"
    )
