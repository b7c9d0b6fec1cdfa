"""Run one stage, as dvc.yaml does: python -m stages STAGE [ARGUMENT]

What all stages have in common, and nothing that shapes a result, so no stage depends on this file:
all of params.yaml is checked, an error is one line, variables that change the arithmetic are
ignored, and environment/ gets a record of where the stage ran.
"""

import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from inspect import signature
from pathlib import Path

import stages._environment  # noqa: F401 (first)
from pipeline.base.environment import discard_variables, environment
from pipeline.base.errors import UserError, for_people
from pipeline.base.launch import is_first, is_launched, launch
from pipeline.params import load_params
from stages._removed import discard_removed

SHARED = ("evaluate", "train")  # stages that several processes can share


def main() -> None:
    stages = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    name, *arguments = sys.argv[1:] or [""]
    if name not in stages:
        raise UserError(f"no stage {name!r}; there are {', '.join(stages)}")
    params = load_params("params.yaml")
    ignored = discard_variables()
    if ignored and not is_launched():
        print(
            f"note: ignored {', '.join(ignored)}: arithmetic depends on params.yaml alone",
            file=sys.stderr,
        )
    if params.runtime.launch and name in SHARED and not is_launched():
        launch(params.runtime.launch, sys.argv[1:])
        return
    stage = import_module(f"stages.{name}").main
    expected = [parameter.upper() for parameter in list(signature(stage).parameters)[1:]]
    if len(arguments) != len(expected):
        raise UserError(f"usage: python -m stages {' '.join([name, *expected])}")
    if not is_first():
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
            stage(params, *arguments)  # the first process prints for all
        return
    discard_removed(params)
    stage(params, *arguments)
    write_record(Path("environment") / f"{'-'.join([name, *arguments])}.json")


def write_record(path: Path) -> None:
    """Record the environment in which a stage ran."""
    from pipeline.data.tables import write_json  # pandas is heavy; not every stage needs it

    write_json(path, environment())


if __name__ == "__main__":
    with for_people():
        main()
