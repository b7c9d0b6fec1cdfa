"""The experiment with one approach more, which reaches more than the article's, in strong/.

Usage: python -m tools.strong. The approach is that of tools/strong.yaml.
"""

import sys

from pipeline.base.errors import for_people
from pipeline.params import read_yaml
from tools.reproduce import next_lines, reproduce_sandbox
from tools.sandbox import PROJECT, update


def main() -> int:
    strong = PROJECT / "strong"
    update(strong, read_yaml(PROJECT / "tools" / "strong.yaml"))
    if code := reproduce_sandbox(strong):
        return code
    print(*next_lines("strong"), sep="\n")
    return 0


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
