"""Fetch one file, and believe it only if its checksum fits."""

from pathlib import Path

from pipeline.base.errors import UserError, choose
from pipeline.base.files import atomic
from pipeline.params import Params
from pipeline.sources.download import UnreachableError, fetch

ARRIVALS = Path("downloads")  # files under way, and those that people bring; DVC empties the places of the outs


def main(params: Params, name: str) -> None:
    file = choose(params.download, name, "download")
    place = ARRIVALS / Path(file.path).relative_to("data")
    brought = [(str(place), checksum) for _, checksum in file.sources] if place.exists() else []
    sources, partial = [*dict.fromkeys(brought), *file.sources], place.with_name(f"{place.name}.part")
    try:
        with atomic(file.path) as (path,):
            fetch(sources, path, partial, f"download.{name}", lambda line: print(f"note: {line}", flush=True))
    except UnreachableError as error:
        every = [(other.sources[0][0], Path(other.path).relative_to("data")) for other in params.download.values()]
        wanted = ", ".join(f"{url} as {path}" for url, path in every)
        raise UserError(
            f"{error}. Without a network, bring {wanted} into {ARRIVALS.resolve()}; or try make demo, which needs none"
        ) from None
