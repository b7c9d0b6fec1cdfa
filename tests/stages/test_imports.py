"""A stage imports what it needs, and no more; packages import in one direction."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from pipeline.params import read_yaml
from tools.sandbox import PROJECT

# A package imports only from itself and from those before it.
PACKAGES = [
    "base",
    "params",  # a module
    "data",
    "sources",
    "compute",
    "models",
    "training",
    "figures",
    "explore",
    "explain",
    "report",
    "export",
]
# torch takes seconds to import. Nothing else imports it: not the report, and not the images.
IMPORT_TORCH = {"evaluate", "explain", "explore", "export", "train"}
OF_SEVERAL_PROCESSES = {"pipeline/base/launch.py", "pipeline/compute/processes.py"}


def test_these_stages_import_torch() -> None:
    names = {path.stem for path in PROJECT.glob("stages/[a-z]*.py")}
    modules = [f"stages.{name}" for name in sorted(names - IMPORT_TORCH)]
    modules += [f"pipeline.sources.{name}" for name in ("flowers102", "folder", "indexed")]
    code = f"import sys, {', '.join(modules)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_these_stages_imported_torch_in_a_run(project: Path) -> None:
    """The record of a stage's environment says what torch found, if it was imported."""
    for path in (project / "environment").iterdir():
        stage = path.stem.partition("-")[0]
        assert ("cpu_capability" in read_yaml(path)) == (stage in IMPORT_TORCH), stage


def test_packages_import_in_one_direction() -> None:
    for path in PROJECT.glob("pipeline/*/*.py"):
        place = PACKAGES.index(path.parent.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.module if isinstance(node, ast.ImportFrom) and node.module else ""
            if name.startswith("pipeline."):
                assert PACKAGES.index(name.split(".")[1]) <= place, f"{path} imports {name}"


def test_packages_hold_a_docstring_and_no_code() -> None:
    """So they need not be named among the deps of a stage."""
    for path in [*PROJECT.glob("pipeline/**/__init__.py"), PROJECT / "stages" / "__init__.py"]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def test_two_files_know_what_rank_and_size_mean() -> None:
    paths = [*PROJECT.glob("pipeline/**/*.py"), *PROJECT.glob("stages/*.py")]
    rank_or_size = re.compile(r"\b(RANK|WORLD_SIZE|torch\.distributed)\b")
    found = {
        path.relative_to(PROJECT).as_posix()
        for path in paths
        if rank_or_size.search(path.read_text(encoding="utf-8"))
    }
    assert found == OF_SEVERAL_PROCESSES
