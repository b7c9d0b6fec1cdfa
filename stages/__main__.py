"""Run one stage, as dvc.yaml does: python -m stages STAGE [ARGUMENT]

What all stages have in common, and nothing that shapes a result, so no stage depends on this file: all of params.yaml
is checked, errors are one line, variables that change the arithmetic are ignored, environment/ gets a record."""

import os
import sys
from contextlib import redirect_stdout
from importlib import import_module
from inspect import signature
from pathlib import Path

from pipeline.base.environment import discard_variables, environment
from pipeline.base.errors import UserError, for_people
from pipeline.base.files import hex_digest, published, write_json
from pipeline.base.launch import RANK, launch
from pipeline.params import load_params
from stages._removed import discard_removed

SHARED = ("evaluate", "features", "train")  # stages that several processes can share


def main() -> None:
    stages = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    name, *arguments = sys.argv[1:] or [""]
    if name not in stages:
        raise UserError(f"no stage {name!r}; there are {', '.join(stages)}")
    params = load_params("params.yaml")
    if (ignored := discard_variables()) and "RANK" not in os.environ:
        print(f"note: ignored {', '.join(ignored)}: arithmetic depends on params.yaml alone", file=sys.stderr)
    if params.runtime.launch and name in SHARED and "RANK" not in os.environ:
        launch(params.runtime.launch, sys.argv[1:])
        return
    stage = import_module(f"stages.{name}").main
    wanted = [parameter.upper() for parameter in list(signature(stage).parameters)[1:]]
    if len(arguments) != len(wanted):
        raise UserError(f"usage: python -m stages {' '.join([name, *wanted])}")
    if RANK:
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing):  # the first process speaks for all
            stage(params, *arguments)
        return
    discard_removed(params)
    stage(params, *arguments)
    outs = {path.as_posix(): hex_digest(path, "md5") for path in published if path.exists()}
    write_json(f"environment/{'-'.join([name, *arguments])}.json", {"environment": environment(), "outs": outs})


if __name__ == "__main__":
    with for_people():
        main()
