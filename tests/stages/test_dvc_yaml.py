"""dvc.yaml says the whole truth: what a stage imports, reads and uses of params, and no more."""

import ast
import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from dvc.stage import Stage
from pydantic import BaseModel

from pipeline.params import Approach, Recipe, load_params, read_yaml
from tools.commands import output
from tools.sandbox import PROJECT

# Code that changes no byte of a result, so that no stage need declare it.
UNDECLARED = ("pipeline/base/", "pipeline/params.py", "stages/_removed.py", "stages/__main__.py")
# Folders that stages use and that hold no outs; what is in them changes no out.
NO_OUTS = {".cache", ".resume", "live"}


def read_stages(directory: Path) -> dict[str, Stage]:
    return {stage.name: stage for stage in Repo(str(directory)).index.stages}


def dependencies(stage: Stage) -> set[str]:
    return {dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)}


def is_code(path: str) -> bool:
    return path.startswith(("pipeline/", "stages/"))


def is_below(path: str, folders: set[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def declared_params(stage: Stage) -> set[str]:
    return {key for dep in stage.deps if isinstance(dep, ParamsDependency) for key in dep.params}


def command(stage: Stage) -> tuple[str, list[str]]:
    """Module and arguments of a stage."""
    name, *arguments = str(stage.cmd).removeprefix("python3 -m stages ").split()
    return f"stages.{name}", arguments


def imported_files(*modules: str) -> set[str]:
    """The project's own files that modules need, directly or not, found in the syntax tree.

    A package's __init__ is left out, for it holds no code (test_imports.py).
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        path = waiting.pop().replace(".", "/") + ".py"
        if path in found or not (PROJECT / path).exists():
            continue
        found.add(path)
        for node in ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
    return found


@pytest.fixture(scope="module")
def stages(project: Path) -> Iterator[dict[str, Stage]]:
    """The stages of the finished run, and one that exports a model."""
    params = project / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("export: []", "export: [fine_tuning]"))
    yield read_stages(project)
    params.write_text(before)
    shutil.rmtree(project / "exported", ignore_errors=True)


def test_a_stage_declares_the_code_that_it_imports(stages: dict[str, Stage]) -> None:
    for name, stage in (read_stages(PROJECT) | stages).items():
        if name.startswith("download"):
            assert not dependencies(stage)  # so that no edit downloads anything again
            continue
        module, _ = command(stage)
        sources = ("flowers102", "folder", "indexed")  # stages/images.py imports one by its name
        others = [f"pipeline.sources.{source}" for source in sources] if name == "images" else []
        needed = imported_files(module, *others)
        code = {dep for dep in dependencies(stage) if is_code(dep)}
        for path in needed:
            assert is_below(path, code) or path.startswith(UNDECLARED), f"{name} imports {path}"
        for dep in code:
            assert any(is_below(path, {dep}) for path in needed), f"{name} imports nothing of {dep}"


def test_the_report_declares_what_its_page_prints_of_the_environment(
    stages: dict[str, Stage],
) -> None:
    assert "pipeline/base/environment.py" in dependencies(stages["report"])


def test_a_file_is_made_by_one_stage_or_lies_in_the_repository(stages: dict[str, Stage]) -> None:
    tracked = output(PROJECT, "git", "ls-files").splitlines()
    for every in (read_stages(PROJECT), stages):
        outs = [out.def_path for stage in every.values() for out in stage.outs]
        assert len(outs) == len(set(outs))
        for name, stage in every.items():
            for dep in dependencies(stage):
                is_made = is_below(dep, set(outs)) or any(is_below(out, {dep}) for out in outs)
                lies_here = any(is_below(file, {dep}) for file in tracked)
                assert is_made or lies_here, f"{name} reads {dep}, which no stage makes"


def test_every_stage_says_what_it_does() -> None:
    for name, stage in read_yaml(PROJECT / "dvc.yaml")["stages"].items():
        assert stage.get("do", stage)["desc"], name


class Recorder:
    """Stands before params and notes every leaf that is read."""

    def __init__(self, value: Any, path: str, seen: set[str]) -> None:
        self._value = value
        self._path = path
        self._seen = seen

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

    def values(self) -> Any:
        return [self[key] for key in self._value]

    def items(self) -> Any:
        return [(key, self[key]) for key in self._value]

    def model_dump(self, **options: Any) -> dict[str, Any]:
        values: dict[str, Any] = self._value.model_dump(**options)
        self._seen |= leaves(values, self._path)
        return values

    def recipe(self, train: "Recorder") -> "RecipeRecorder":
        return RecipeRecorder(self._value, self._path, train)


class RecipeRecorder:
    """Stands before a recipe and notes what is read: of the approach if it says it, else of train.

    Args:
        path: of the approach in params.yaml; empty for one that a stage makes up.
    """

    def __init__(self, approach: Approach, path: str, train: Recorder) -> None:
        self._recipe = RECIPE(approach, train._value)
        self._own = approach.model_dump(exclude_unset=True)
        self._path = path
        self._seen = train._seen

    def _note(self, name: str) -> None:
        if name not in self._own:
            self._seen |= leaves(self._recipe.model_dump()[name], f"train.{name}")
        elif self._path:
            self._seen |= leaves(self._own[name], f"{self._path}.{name}")

    def __getattr__(self, name: str) -> Any:
        if isinstance(getattr(Recipe, name, None), property):
            return getattr(Recipe, name).fget(self)
        self._note(name)
        return getattr(self._recipe, name)

    def model_dump(self) -> dict[str, Any]:
        for name in Recipe.model_fields:
            self._note(name)
        return self._recipe.model_dump()


RECIPE = Approach.recipe


def leaves(value: Any, path: str) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(leaves(part, f"{path}.{key}") for key, part in value.items()))
    return {path.lstrip(".")}


def leaves_below(params: dict[str, Any], keys: set[str]) -> set[str]:
    found: set[str] = set()
    for key in keys:
        value: Any = params
        for part in key.split("."):
            value = value[part]
        found |= leaves(value, key)
    return found


NAMES = [
    "draw@images",
    "images",
    "explore",
    "train@fine_tuning",
    "evaluate@fine_tuning",
    pytest.param("export@fine_tuning", marks=pytest.mark.slow),
    "explain",
    "report",
]


@pytest.mark.parametrize("name", NAMES)
def test_params_and_files_used_are_those_declared(
    project: Path, stages: dict[str, Stage], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the stage, watching which params it reads and which files it opens."""
    stage = stages[name]
    params = load_params(project / "params.yaml")
    seen: set[str] = set()
    opened: set[str] = set()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and is_watching:
            path = Path(arguments[0]).absolute()
            if path.is_relative_to(project) and path.suffix != ".part":
                opened.add(str(path.relative_to(project)))

    def made_up(approach: Approach, train: Recorder) -> RecipeRecorder:
        return RecipeRecorder(approach, "", train)

    module_name, arguments = command(stage)
    module = importlib.import_module(module_name)
    monkeypatch.chdir(project)
    monkeypatch.setattr(Approach, "recipe", made_up)
    # It reads other approaches to decide what is kept in the cache, which changes no result.
    monkeypatch.setattr(module, "trained_by_others", lambda *arguments: [], raising=False)
    is_watching = True
    sys.addaudithook(watch)
    module.main(Recorder(params, "", seen), *arguments)
    is_watching = False

    values = params.model_dump(exclude_unset=True)
    every = params.model_dump()
    unset = leaves(every["approaches"], "approaches") - leaves(values["approaches"], "approaches")
    unset |= leaves(every["images"], "images") - {"images.source", "images.path"}  # another source
    used = {key for key in seen if not key.startswith("runtime.")}  # which changes no result
    assert used - unset == leaves_below(every, declared_params(stage)) - unset

    outs = {out.def_path for out in stage.outs}
    for path in opened:
        assert is_below(path, dependencies(stage) | outs | NO_OUTS), f"{path} is not declared"


def test_every_param_is_used_by_some_stage(stages: dict[str, Stage]) -> None:
    used = {"draw", "export", "runtime"}  # the first two are in commands; runtime changes no result
    for stage in [*read_stages(PROJECT).values(), *stages.values()]:
        used |= declared_params(stage)
    for key in leaves(load_params(PROJECT / "params.yaml").model_dump(), ""):
        assert any(key == other or key.startswith(f"{other}.") for other in used), key


def test_the_schema_refuses_values_and_changes_none() -> None:
    """So that no stage needs to depend on it."""
    given = read_yaml(PROJECT / "params.yaml")
    assert load_params(PROJECT / "params.yaml").model_dump(exclude_unset=True) == given
