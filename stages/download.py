"""Fetch one file, and believe it only if its checksum fits."""

from pathlib import Path

from pipeline.base.errors import UserError, choose
from pipeline.base.files import atomic
from pipeline.params import Params
from pipeline.sources.download import UnreachableError, fetch

ARRIVALS = Path("downloads")  # files under way, and those that people bring; DVC empties the place of the outs


def main(params: Params, name: str) -> None:
    file = choose(params.download, name, "download")
    places = {key: ARRIVALS / Path(wanted.path).relative_to("data") for key, wanted in params.download.items()}
    brought = [(str(places[name]), checksum) for _, checksum in file.sources if places[name].exists()]
    partial = places[name].with_name(f"{places[name].name}.part")

    def note(line: str) -> None:
        print(f"note: {line}", flush=True)

    try:
        with atomic(file.path) as (path,):
            fetch([*dict.fromkeys(brought), *file.sources], path, partial, f"download.{name}", note)
    except UnreachableError as error:
        urls = {key: wanted.sources[0][0] for key, wanted in params.download.items()}
        files = ", ".join(f"{url} as {places[key]}" for key, url in urls.items())
        raise UserError(f"{error}. Without a network, bring {files}; or try make demo, which needs none") from None
