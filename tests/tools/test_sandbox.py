"""A copy of the project with other params, in which nobody's work is lost."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.params import read_yaml
from tools.commands import environment
from tools.merge import merge
from tools.sandbox import PROJECT, commit, has_older_experiments, is_edited, update

RESULTS = ("dvc.lock", "metrics.json", "environment/a.json")
IGNORED = ("data/images.tar", "code/__pycache__/cached")
PARAMS = """\
# What is learned.
train:
  epochs: 15  # passes
  batch_size: 32  # images
images: {path: data/flowers}
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def read(root: Path) -> dict[str, str]:
    """Every file below ``root`` but git's own."""
    paths = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}


def git(directory: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of three files, tracked by git."""
    project = tmp_path / "project"
    write(project, {"params.yaml": PARAMS, "code/a.py": "1", ".dvc/config": "[core]\n"})
    git(tmp_path, "init", "--quiet", "project")
    git(project, "add", ".")
    return project


@pytest.fixture
def sandbox(project: Path, tmp_path: Path) -> Path:
    """A copy of it, in the folder own."""
    update(tmp_path / "own", {}, project)
    return tmp_path / "own"


def test_a_sandbox_follows_the_project_and_keeps_its_own_results(tmp_path: Path) -> None:
    project = tmp_path / "project"
    sandbox = tmp_path / "sandbox"
    code = {
        ".gitignore": "/data/\n__pycache__/\n",
        "kept.py": "1",
        "code/gone [1].py": "2",
        "folder/gone.py": "3",
    }
    write(project, code | {"params.yaml": "a: {x: ü, y: 1}  # a comment\n"})
    write(project, dict.fromkeys((*RESULTS, *IGNORED), "project's"))
    git(project, "init", "--quiet")
    update(sandbox, {"a": {"y": 2}}, project)
    copied = read(sandbox)
    assert copied.pop("params.yaml") == "a: {x: ü, y: 2}  # a comment\n"
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
    assert git(sandbox, "status", "--porcelain") == "?? mine.txt\n"  # all else is committed


# Nobody's work is lost.


def test_what_a_person_changed_stays_and_is_named(
    project: Path, sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edits = {"code/a.py": "a person's", ".dvc/config": "[core]\n    remote = mine\n"}
    write(sandbox, edits | {"code/b.py": "a person's too"})
    # Of the project, and later: a change of each, and a new file of a name that a person has used.
    write(project, {"code/a.py": "2", ".dvc/config": "[core]\n    x = y\n", "code/b.py": "new"})
    write(project, {"code/c.py": "new"})
    update(sandbox, {}, project)
    found = read(sandbox)
    assert found.items() >= (edits | {"code/b.py": "a person's too", "code/c.py": "new"}).items()
    assert capsys.readouterr().out == (
        "note: own/ keeps what was changed there: '.dvc/config', 'code/a.py', 'code/b.py'; "
        "to start afresh, delete a file there, or own/ as a whole, and run it again\n"
    )
    # What the project no longer has, too.
    (project / "code" / "a.py").unlink()
    (project / "code" / "c.py").unlink()
    update(sandbox, {}, project)
    assert (sandbox / "code" / "a.py").read_text() == "a person's"
    assert not (sandbox / "code" / "c.py").exists()
    assert "'code/a.py'" in capsys.readouterr().out


def test_a_committed_change_stays_too(project: Path, sandbox: Path) -> None:
    write(sandbox, {"code/a.py": "a person's"})
    commit(sandbox, "an idea", "code/a.py")
    write(project, {"code/a.py": "2"})
    update(sandbox, {}, project)
    assert (sandbox / "code" / "a.py").read_text() == "a person's"


def test_who_deletes_a_changed_file_or_the_folder_starts_afresh(
    project: Path, sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(sandbox, {"code/a.py": "a person's", "params.yaml": "train: {epochs: 1}\n"})
    for name in ("code/a.py", "params.yaml"):
        (sandbox / name).unlink()
    update(sandbox, {}, project)
    assert read(sandbox) == read(project)
    write(sandbox, {"code/a.py": "a person's"})
    shutil.rmtree(sandbox)
    update(sandbox, {}, project)
    assert read(sandbox) == read(project)
    assert capsys.readouterr().out == ""


def test_edited_params_follow_where_they_were_not_edited(project: Path, sandbox: Path) -> None:
    edited = PARAMS.replace("15  # passes", "30  # more, as it was still learning")
    write(sandbox, {"params.yaml": edited})
    update(sandbox, {"images": {"path": "photos"}}, project)
    expected = edited.replace("data/flowers", "photos")
    assert (sandbox / "params.yaml").read_text() == expected
    # The next change is compared with that one.
    update(sandbox, {"images": {"path": "more"}, "train": {"batch_size": 8}}, project)
    values = {"train": {"epochs": 30, "batch_size": 8}, "images": {"path": "more"}}
    assert read_yaml(sandbox / "params.yaml") == values


def test_what_a_command_line_asks_for_is_set_over_an_edit(project: Path, sandbox: Path) -> None:
    write(sandbox, {"params.yaml": PARAMS.replace("data/flowers", "mine").replace("15", "30")})
    changes = {"images": {"path": "photos"}, "train": {"epochs": 1}}
    update(sandbox, changes, project, demanded=["images.path"])
    values = {"train": {"epochs": 30, "batch_size": 32}, "images": {"path": "photos"}}
    assert read_yaml(sandbox / "params.yaml") == values


def test_params_that_are_none_are_refused_and_stay(project: Path, sandbox: Path) -> None:
    write(sandbox, {"params.yaml": "nothing\n"})
    with pytest.raises(UserError, match=r"params.yaml: holds no params; delete it"):
        update(sandbox, {}, project)
    assert (sandbox / "params.yaml").read_text() == "nothing\n"


def test_comments_stay_where_sections_are_emptied_and_filled(project: Path, tmp_path: Path) -> None:
    """Sections of the real params.yaml, which nobody could read without their comments."""
    shutil.copy(PROJECT / "params.yaml", project)
    for name in ("strong", "quick"):
        changes = read_yaml(PROJECT / "tools" / f"{name}.yaml")
        update(tmp_path / name, changes, project)
        path = tmp_path / name / "params.yaml"
        assert read_yaml(path) == merge(read_yaml(project / "params.yaml"), changes)
        assert "# images per optimizer step" in path.read_text()


def test_an_update_without_news_leaves_the_last_commit_and_its_experiments(
    project: Path, sandbox: Path
) -> None:
    write(sandbox, {"dvc.lock": "results"})
    commit(sandbox, "results", "dvc.lock")
    head = git(sandbox, "rev-parse", "HEAD").strip()
    # As `dvc exp run` leaves it: a reference, and other params in the workspace.
    git(sandbox, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/keen-nags", head)
    write(sandbox, {"params.yaml": PARAMS.replace("15", "30"), "dvc.lock": "the experiment's"})
    update(sandbox, {}, project)
    assert git(sandbox, "rev-parse", "HEAD").strip() == head
    assert not has_older_experiments(sandbox)
    assert is_edited(sandbox)  # so its results do not become those of the last commit
    write(project, {"code/a.py": "2"})
    update(sandbox, {}, project)
    assert has_older_experiments(sandbox)


def test_results_alone_are_no_edits(sandbox: Path) -> None:
    write(sandbox, dict.fromkeys(RESULTS, "1"))
    commit(sandbox, "results", *RESULTS)
    write(sandbox, dict.fromkeys(RESULTS, "2"))
    assert not is_edited(sandbox)
    write(sandbox, {"code/a.py": "2"})
    assert is_edited(sandbox)


def test_what_a_person_has_staged_is_not_committed(project: Path, sandbox: Path) -> None:
    write(sandbox, {"mine.py": "half an idea"})
    git(sandbox, "add", "mine.py")
    write(project, {"code/a.py": "2"})
    update(sandbox, {}, project)
    assert git(sandbox, "status", "--porcelain") == "A  mine.py\n"


# What is copied.


@pytest.mark.parametrize("has_repository", [True, False])
def test_photographs_in_the_project_are_not_copied(
    project: Path, tmp_path: Path, has_repository: bool
) -> None:
    photographs = [f"photos/class {k}/{'x' * 100}/{i}.jpg" for k in range(2) for i in range(20)]
    others = ["photos.zip", "weights.pth", "code/new.py", "notes.txt", "labels/classes.json"]
    write(project, dict.fromkeys([*photographs, *others], "1"))
    expected = {"params.yaml", "code/a.py", ".dvc/config", "code/new.py", "notes.txt"}
    if not has_repository:  # a ZIP file from GitHub: all counts as new
        shutil.rmtree(project / ".git")
        expected |= {"labels/classes.json"}
    update(tmp_path / "own", {}, project)
    assert read(tmp_path / "own").keys() == expected


def test_images_that_git_tracks_are_not_copied_either(project: Path, sandbox: Path) -> None:
    write(project, {"photos/ant/1.txt": "an image by its content", "photos/labels.csv": "1"})
    git(project, "add", ".")
    update(sandbox, {}, project, images=project / "photos")
    assert not (sandbox / "photos").exists()


def test_no_number_of_long_names_is_too_many(project: Path, sandbox: Path) -> None:
    names = [f"{'x' * 100}/{'y' * 130}{number}.py" for number in range(9_000)]
    assert sum(map(len, names)) > os.sysconf("SC_ARG_MAX") / 2
    (project / ("x" * 100)).mkdir()
    for name in names:
        (project / name).touch()
    git(project, "add", ".")
    update(sandbox, {}, project)
    assert len(git(sandbox, "ls-files").splitlines()) == 9_003


def test_a_project_without_a_repository_is_copied_by_its_gitignore(tmp_path: Path) -> None:
    """In another repository too, as a ZIP file that was unpacked into one."""
    git(tmp_path, "init", "--quiet")
    project = tmp_path / "project"
    write(
        project, {"params.yaml": PARAMS, "code/a.py": "1", ".gitignore": "/data/\n/demo/\n.venv\n"}
    )
    write(project, {"data/images.tar": "1", ".venv/python.py": "1", "dvc.lock": "1"})
    for _ in range(2):
        update(project / "demo", {}, project)
        assert read(project / "demo").keys() == {"params.yaml", "code/a.py", ".gitignore"}
    assert git(tmp_path, "status", "--porcelain") == "?? project/\n"
    assert git(project / "demo", "status", "--porcelain") == ""


# Other repositories, other users.

UPDATE = "import sys; from pathlib import Path; from tools.sandbox import update; "
UPDATE += "update(Path(sys.argv[1]), {}, Path(sys.argv[2]))"


def test_a_hook_of_another_repository_changes_nothing(
    project: Path, sandbox: Path, tmp_path: Path
) -> None:
    git(project, "-c", "user.name=me", "-c", "user.email=@", "commit", "--quiet", "-m", "mine")
    head = git(project, "rev-parse", "HEAD")
    config = (project / ".git" / "config").read_text()
    write(project, {"code/a.py": "2"})
    theirs = {
        "GIT_DIR": str(project / ".git"),
        "GIT_WORK_TREE": str(project),
        "GIT_INDEX_FILE": str(project / ".git" / "index"),
        "GIT_PREFIX": "code/",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_AUTHOR_DATE": "yesterday",
        "GIT_CONFIG_PARAMETERS": "'core.bare'='true'",
    }
    for place in (sandbox, tmp_path / "new"):
        subprocess.run(
            [sys.executable, "-c", UPDATE, place, project],
            cwd=PROJECT,
            env=environment() | theirs,
            check=True,
        )
        assert (place / "code" / "a.py").read_text() == "2"
        assert git(place, "status", "--porcelain") == ""
    assert git(project, "rev-parse", "HEAD") == head
    assert (project / ".git" / "config").read_text() == config
    assert git(project, "status", "--porcelain") == " M code/a.py\n"


def test_anothers_repository_is_said_with_what_to_do(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError) as error:
        update(tmp_path / "own", {}, project)
    text = str(error.value)
    assert f"fatal: detected dubious ownership in repository at '{project}'" in text
    assert "git config --global --add safe.directory" in text
    assert "\n" not in text
