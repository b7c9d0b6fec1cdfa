"""The whole pipeline, offline, on drawn flowers, in the folder demo/. Usage: python -m tools.demo"""

import subprocess
import sys
from pathlib import Path

from pipeline.params import read_yaml
from tools.sandbox import PROJECT, commit, environment, update


def main() -> int:
    demo = PROJECT / "demo"
    update(demo, read_yaml(Path(__file__).with_name("demo.yaml")))
    code = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=demo, env=environment()).returncode
    if code:
        return code
    commit(demo, "results")
    print("\n" + (demo / "report" / "comparison.md").read_text())
    print("Figures: " + ", ".join(sorted(str(path.relative_to(PROJECT)) for path in demo.glob("report/*.png"))))
    print("Play on:  cd demo, then dvc exp run -S approaches.fine_tuning.learning_rates.layer4=3e-4, dvc metrics diff")
    return 0


if __name__ == "__main__":
    sys.exit(main())
