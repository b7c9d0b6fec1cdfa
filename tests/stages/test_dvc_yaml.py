"""dvc.yaml says the whole truth: every file a stage imports or reads, every param it uses, and no more."""

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from dvc.stage import Stage
from pydantic import BaseModel

from pipeline.params import load_params, read_yaml
from tests.conftest import Run
from tools.sandbox import PROJECT


def stages(directory: Path) -> dict[str, Any]:
    return {stage.name: stage for stage in Repo(str(directory)).index.stages}


def dependencies(stage: Stage) -> set[str]:
    return {dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)}


def declared_params(stage: Stage) -> set[str]:
    return {key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params}


def module_of(stage: Stage) -> str:
    return f"stages.{str(stage.cmd).split()[3]}"


def imported_files(*modules: str) -> set[str]:
    """The project's own files that modules need, directly or not, found in the syntax tree.

    The schema is left out, for it changes no value (a test below), and a package's __init__, for it holds no code
    (test_imports.py).
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        path = waiting.pop().replace(".", "/") + ".py"
        if path in found or not (PROJECT / path).exists() or path.endswith("/params.py"):
            continue
        found.add(path)
        for node in ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
    return found


class Recorder:
    """Stands before params and notes every leaf that is read."""

    def __init__(self, value: Any, path: str, seen: set[str]) -> None:
        self._value, self._path, self._seen = value, path, seen

    def _at(self, key: str, value: Any) -> Any:
        path = f"{self._path}.{key}".lstrip(".")
        if isinstance(value, BaseModel | dict):
            return Recorder(value, path, self._seen)
        self._seen.add(path)
        return value

    def __getattr__(self, name: str) -> Any:
        if isinstance(getattr(type(self._value), name, None), property):
            return getattr(type(self._value), name).fget(self)
        return self._at(name, getattr(self._value, name))

    def __getitem__(self, key: str) -> Any:
        return self._at(key, self._value[key])

    def __iter__(self) -> Any:
        return iter(self._value)

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def keys(self) -> Any:
        return self._value.keys()

    def items(self) -> Any:
        return [(key, self[key]) for key in self._value]

    def model_dump(self, **options: Any) -> dict[str, Any]:
        values: dict[str, Any] = self._value.model_dump(**options)
        self._seen |= {key.lstrip(".") for key in leaves(values, self._path)}
        return values


def leaves(value: Any, path: str) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(leaves(part, f"{path}.{key}") for key, part in value.items()))
    return {path}


def test_deps_are_exactly_the_imported_files(project: Path) -> None:
    for directory in (PROJECT, project):  # both sources
        for name, stage in stages(directory).items():
            code = {dep for dep in dependencies(stage) if dep.endswith(".py")}
            source = load_params(directory / "params.yaml").images.source  # stages/images.py imports it by name
            modules = [f"pipeline.sources.{source}"] if name == "images" else []
            assert code == imported_files(module_of(stage), *modules), name


def test_every_file_is_made_by_one_stage_or_is_code(project: Path) -> None:
    for directory in (PROJECT, project):
        every = stages(directory)
        outs = [out.def_path for stage in every.values() for out in stage.outs]
        assert len(outs) == len(set(outs))
        for name, stage in every.items():
            for dep in dependencies(stage):
                made = dep in outs or any(out.startswith(f"{dep}/") for out in outs)
                assert made or dep.endswith(".py") or dep == "pipeline/report/templates", (
                    f"{name} reads {dep}, which no stage makes"
                )


@pytest.mark.parametrize(
    "name",
    [
        "draw@images",
        "draw@backbone",
        "images",
        "prepare",
        "explore",
        "features@layer3",
        "alike@avgpool",
        "train@fine_tuning",
        "evaluate@fine_tuning",
        "explain",
        "compare",
        "report",
    ],
)
def test_params_and_files_used_are_those_declared(project: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the stage for real, watching which params it reads and which data files it opens."""
    stage = stages(PROJECT if name == "alike@avgpool" else project)[name]
    seen: set[str] = set()
    params = load_params(project / "params.yaml")
    opened: set[str] = set()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and watching:
            path = Path(arguments[0]).absolute()
            if path.is_relative_to(project) and path.suffix != ".part":
                opened.add(str(path.relative_to(project)))

    module = importlib.import_module(module_of(stage))
    monkeypatch.chdir(project)
    watching = True
    sys.addaudithook(watch)
    module.main(Recorder(params, "", seen), *str(stage.cmd).split()[4:])
    watching = False

    values = params.model_dump()
    unset = {key.lstrip(".") for key in leaves(values, "") - leaves(params.model_dump(exclude_none=True), "")}
    declared: set[str] = set()
    for key in declared_params(stage):
        value = values
        for part in key.split("."):
            value = value[part]
        declared |= leaves(value, key) - unset
    used = {key for key in seen if not key.startswith("runtime.")} - unset  # runtime changes no result
    assert used == declared

    known = dependencies(stage) | {out.def_path for out in stage.outs} | {".resume", "live"}
    for path in opened:
        assert any(path == dep or path.startswith(f"{dep}/") for dep in known), f"{path} is read but not declared"


def test_every_param_is_used_by_some_stage(project: Path) -> None:
    used: set[str] = {"alike", "draw", "export"}  # are in the stages' commands
    for directory in (PROJECT, project):
        for stage in stages(directory).values():
            used |= declared_params(stage)
    for key in leaves(load_params(PROJECT / "params.yaml").model_dump(), "") - {""}:
        key = key.lstrip(".")
        assert key.startswith("runtime.") or any(key == other or key.startswith(f"{other}.") for other in used), key


def test_the_schema_refuses_values_and_changes_none() -> None:
    """So that no stage needs to depend on it."""
    given = read_yaml(PROJECT / "params.yaml")
    assert load_params(PROJECT / "params.yaml").model_dump(exclude_unset=True) == given


def test_readme_shows_the_graph_as_it_is(run: Run) -> None:
    graph = run(PROJECT, "dvc", "dag", "--mermaid").stdout
    lines = [line.strip() for line in graph.splitlines() if "-->" in line or "[" in line]
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    block = readme.split("```mermaid\n")[1].split("```")[0]
    assert [line.strip() for line in block.splitlines() if "-->" in line or "[" in line] == lines
