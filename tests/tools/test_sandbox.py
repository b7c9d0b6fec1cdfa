"""A copy of the project with other params."""

import subprocess
from pathlib import Path

from pipeline.params import read_yaml
from tools.sandbox import commit, merge, update

RESULTS = ("dvc.lock", "metrics.json", "environment/a.json")
IGNORED = ("data/images.tar", "code/__pycache__/cached")


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def read(root: Path) -> dict[str, str]:
    """Every file below ``root`` but git's own."""
    paths = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}


def test_params_are_merged_key_by_key_and_null_removes() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merge(base, {"a": {"x": 5, "y": None}, "c": {}}) == {"a": {"x": 5}, "b": 3, "c": {}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}


def test_a_sandbox_follows_the_project_and_keeps_its_own_results(tmp_path: Path) -> None:
    project = tmp_path / "project"
    sandbox = tmp_path / "sandbox"
    code = {
        ".gitignore": "/data/\n__pycache__/\n",
        "kept.py": "1",
        "code/gone [1].py": "2",
        "folder/gone.py": "3",
    }
    write(project, code | {"params.yaml": "a: {x: ü, y: 1}\n"})
    write(project, dict.fromkeys((*RESULTS, *IGNORED), "project's"))
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    update(sandbox, {"a": {"y": 2}}, project)
    copied = read(sandbox)
    assert copied.pop("params.yaml") == "a:\n  x: ü\n  y: 2\n"
    assert copied == code

    own = dict.fromkeys((*RESULTS, *IGNORED), "sandbox's")
    write(sandbox, own)
    commit(sandbox, "results", "dvc.lock", "metrics.json", "environment")
    write(sandbox, {"mine.txt": "a person's"})
    (project / "code" / "gone [1].py").unlink()
    (project / "folder" / "gone.py").unlink()
    (project / "folder").rmdir()
    write(project, {"kept.py": "changed", "folder": "now a file"})
    update(sandbox, {}, project)
    assert read_yaml(sandbox / "params.yaml") == {"a": {"x": "ü", "y": 1}}
    found = read(sandbox)
    del found["params.yaml"]
    expected = {".gitignore": code[".gitignore"], "kept.py": "changed", "folder": "now a file"}
    assert found == expected | own | {"mine.txt": "a person's"}
    status = ["git", "status", "--porcelain"]
    left = subprocess.run(status, cwd=sandbox, check=True, capture_output=True, text=True)
    assert left.stdout == "?? mine.txt\n"  # all else is committed
