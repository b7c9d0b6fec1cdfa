"""Files of approaches that are no longer in params.yaml."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.params import Params, read_yaml

STAGES = ("train", "evaluate", "export")


def discard_removed(params: Params) -> None:
    """Delete what removed approaches made, which dvc.lock names.

    DVC would leave it in the folders that the report reads.
    """
    lock = read_yaml("dvc.lock") if Path("dvc.lock").exists() else {"stages": {}}
    try:
        for path in _outs_of_removed(params, lock):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except (LookupError, TypeError, AttributeError, ValueError, OSError) as error:
        raise UserError(
            f"dvc.lock: not as DVC writes it ({error!r}); delete it, or git checkout dvc.lock"
        ) from None


def _outs_of_removed(params: Params, lock: dict[str, Any]) -> Iterator[Path]:
    for stage, entry in lock["stages"].items():
        kind, _, name = stage.partition("@")
        kept = params.export if kind == "export" else params.approaches
        if kind in STAGES and name not in kept:
            yield Path("environment") / f"{kind}-{name}.json"
            yield Path("live") / f"{name}.csv"
            for out in entry["outs"]:
                yield Path(out["path"])
