"""A stage imports what it needs, and no more."""

import ast
import subprocess
import sys

from tools.sandbox import PROJECT

ROOMS = ["base", "data", "sources", "models", "training", "report"]  # a room imports only from those before it


def test_stages_that_compute_nothing_with_torch_do_not_import_it() -> None:
    modules = "stages.compare, stages.download, stages.images, stages.prepare"
    modules += ", pipeline.sources.flowers102, pipeline.sources.indexed"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_rooms_import_in_one_direction() -> None:
    for path in PROJECT.glob("pipeline/*/*.py"):
        place = ROOMS.index(path.parent.name)
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.module if isinstance(node, ast.ImportFrom) and node.module else ""
            if name.startswith("pipeline."):
                assert ROOMS.index(name.split(".")[1]) <= place, f"{path} imports {name}"


def test_packages_hold_a_docstring_and_no_code() -> None:
    """So they need not be named among the deps of a stage."""
    for path in [*PROJECT.glob("pipeline/**/__init__.py"), PROJECT / "stages" / "__init__.py"]:
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def test_files_are_read_in_one_sitting() -> None:
    for path in [*PROJECT.glob("pipeline/**/*.py"), *PROJECT.glob("tools/*.py"), *PROJECT.glob("stages/*.py")]:
        assert len(path.read_text().splitlines()) <= (50 if path.parent.name == "stages" else 250), path
