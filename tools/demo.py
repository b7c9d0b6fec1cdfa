"""The whole pipeline, offline, on drawn flowers, in the folder demo/. Usage: python -m tools.demo"""

import sys

from pipeline.base.errors import for_people
from pipeline.params import read_yaml
from tools.sandbox import DVC, PROJECT, commit, run, update


def main() -> int:
    demo = PROJECT / "demo"
    update(demo, read_yaml(PROJECT / "tools" / "demo.yaml"))
    if code := run(demo, *DVC, "repro").returncode:
        return code
    commit(demo, "results", "dvc.lock", "environment", "metrics")
    print("\n" + (demo / "report" / "comparison.md").read_text(encoding="utf-8"))
    print("Figures: " + ", ".join(sorted(str(path.relative_to(PROJECT)) for path in demo.glob("report/*.png"))))
    print("Play on:  cd demo, then dvc exp run -S approaches.fine_tuning.learning_rates.layer4=3e-4, dvc metrics diff")
    return 0


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
