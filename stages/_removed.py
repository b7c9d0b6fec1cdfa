"""Files of approaches that are gone."""

from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.params import Params, read_yaml


def discard_removed(params: Params) -> None:
    """Delete what removed approaches made, as dvc.lock names it: DVC would leave it in folders that compare reads."""
    lock = read_yaml("dvc.lock") if Path("dvc.lock").exists() else {"stages": {}}
    try:
        for stage, entry in lock["stages"].items():
            kind, _, name = stage.partition("@")
            kept = params.export if kind == "export" else params.approaches
            for out in entry["outs"] if kind in ("train", "evaluate", "export") and name not in kept else []:
                Path(out["path"]).unlink(missing_ok=True)
    except (LookupError, TypeError, AttributeError, ValueError, OSError) as error:
        raise UserError(f"dvc.lock: not as DVC writes it ({error!r}); delete it, or git checkout dvc.lock") from None
