"""The whole pipeline in a folder of its own, with the changes of tools/NAME.yaml. Usage: python -m tools.demo [NAME]

NAME is demo (offline, on drawn flowers), or strong (one approach more, which reaches more than the article's).
"""

import sys
from pathlib import Path
from typing import Any

from pipeline.base.errors import for_people
from pipeline.params import read_yaml
from tools.sandbox import DVC, PROJECT, commit, run, update


def reproduce(sandbox: Path, changes: dict[str, Any]) -> int:
    """Run the pipeline with ``changes`` of params.yaml in a copy of the project, print its table; DVC's exit code."""
    update(sandbox, changes)
    if code := run(sandbox, *DVC, "repro").returncode:
        return code
    commit(sandbox, "results", "dvc.lock", "environment", "metrics")
    name = sandbox.relative_to(PROJECT)
    print("\n" + (sandbox / "report" / "comparison.md").read_text(encoding="utf-8"))
    print(f"Report:   {name}/report/index.html, for a browser")
    if Path(sys.prefix) == PROJECT / ".venv":  # by make, outside of which nobody has activated it
        print("Activate: . .venv/bin/activate")
    print(f"Predict:  python -m pipeline.predict {name}/models/fine_tuning.safetensors IMAGE ...")
    print(
        f"Play on:  cd {name}, then dvc exp run -S approaches.fine_tuning.learning_rates.layer4=3e-4, dvc metrics diff"
    )
    return 0


if __name__ == "__main__":
    with for_people():
        name = (sys.argv[1:] or ["demo"])[0]
        sys.exit(reproduce(PROJECT / name, read_yaml(PROJECT / "tools" / f"{name}.yaml")))
