"""The packages of the lock, whoever calls DVC: imported before anything that needs them.

DVC starts a stage by the `python3` that it finds. Where nobody has activated the environment (cron,
Slurm, an editor), that is the system's, and the stage goes on in the project's .venv.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("pydantic") is None:
    here = Path.cwd()
    for folder in (here, *here.parents):  # of demo/, or of an experiment in .dvc/tmp/exps
        venv = folder / ".venv"
        python = venv / "bin" / "python"
        if python.exists() and not venv.samefile(sys.prefix):
            os.execv(str(python), [str(python), "-m", "stages", *sys.argv[1:]])
    sys.exit(
        f"error: {sys.executable} has not the packages of requirements.lock; activate an "
        "environment that has them: . .venv/bin/activate"
    )
