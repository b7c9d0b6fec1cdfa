"""Run one stage, as dvc.yaml does: python -m stages STAGE [ARGUMENT]

What all stages have in common, and nothing that shapes a result, so no stage depends on this file: all of params.yaml
is checked, errors are one line, variables that change the arithmetic are ignored, environment/ gets a record."""

import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

from pipeline.base.environment import discard_variables, environment
from pipeline.base.errors import UserError, for_people
from pipeline.base.files import hex_digest, published, write_json
from pipeline.params import Params, load_params, read_yaml


def main() -> None:
    stages = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    name, *arguments = sys.argv[1:] or [""]
    if name not in stages:
        raise UserError(f"no stage {name!r}; there are {', '.join(stages)}")
    params = load_params("params.yaml")
    if ignored := discard_variables():
        print(f"note: ignored {', '.join(ignored)}: arithmetic depends on params.yaml alone", file=sys.stderr)
    stage = import_module(f"stages.{name}").main
    wanted = [parameter.upper() for parameter in list(signature(stage).parameters)[1:]]
    if len(arguments) != len(wanted):
        raise UserError(f"usage: python -m stages {' '.join([name, *wanted])}")
    discard_removed(params)
    stage(params, *arguments)
    outs = {path.as_posix(): hex_digest(path, "md5") for path in published if path.exists()}
    write_json(f"environment/{'-'.join([name, *arguments])}.json", {"environment": environment(), "outs": outs})


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


if __name__ == "__main__":
    with for_people():
        main()
