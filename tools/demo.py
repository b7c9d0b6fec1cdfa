"""The whole pipeline in a folder of its own, with other params. Usage: python -m tools.demo [NAME]

NAME is that of the folder, and of the file tools/NAME.yaml with the changes of params.yaml: demo
(offline, on drawn flowers) or strong (one more approach, which reaches more than the article's).
"""

import sys
from pathlib import Path
from typing import Any

from pipeline.base.errors import for_people
from pipeline.params import read_yaml
from tools.sandbox import DVC, PROJECT, commit, run, update


def reproduce(sandbox: Path, changes: dict[str, Any]) -> int:
    """Run the pipeline in a copy of the project and print its table; returns DVC's exit code.

    Args:
        changes: of params.yaml.
    """
    update(sandbox, changes)
    if code := run(sandbox, *DVC, "repro").returncode:
        return code
    commit(sandbox, "results", "dvc.lock", "environment", "metrics.json")
    name = sandbox.relative_to(PROJECT)
    rate = "approaches.fine_tuning.learning_rates.layer4=3e-4"
    print("\n" + (sandbox / "report" / "comparison.md").read_text(encoding="utf-8"))
    print(f"Report:   {name}/report/index.html, for a browser")
    if Path(sys.prefix) == PROJECT / ".venv":  # started by make; nobody has activated it
        print("Activate: . .venv/bin/activate")
    print(f"Predict:  python -m pipeline.predict {name}/models/fine_tuning.safetensors IMAGE ...")
    print(f"Play on:  cd {name}, then dvc exp run -S {rate}, dvc metrics diff")
    return 0


def main() -> int:
    name = (sys.argv[1:] or ["demo"])[0]
    return reproduce(PROJECT / name, read_yaml(PROJECT / "tools" / f"{name}.yaml"))


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
