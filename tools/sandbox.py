"""A copy of the project with other params, in which the pipeline runs without touching this one.

What a person does in the copy stays: only files that are as they were last copied are brought up to
date. The copy's git remembers what that was, as ``COPIED``.
"""

import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.base.errors import UserError, listed, print_note
from pipeline.params import read_yaml
from tools.commands import output, reason, run
from tools.merge import layer, merge, read_yaml_text, three_way, values_at, with_values

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = ("curves.csv", "dvc.lock", "environment", "metrics.json")
# Pathspec of what a copy needs of what git tracks: it makes its own results, and needs no demo.
SOURCES = ("--", ".", ":!demo", *(f":!{name}" for name in RESULTS))
PARAMS = "params.yaml"
COPIED = "refs/sandbox/project"  # `git diff refs/sandbox/project` shows what a person changed since
COMMIT_OF_COPY = "the project's working tree"
LARGEST_SOURCE = 10**6  # bytes of a file that git does not track
# How names of files end that are no code: photographs, archives, weights.
NOT_CODE = re.compile(
    r"\.(avif|bmp|gif|hei[cf]|jfif|jpe?g|p[bgpn]m|png|tiff?|webp"
    r"|7z|bz2|gz|rar|tar|tgz|xz|zip|zst|h5|np[yz]|onnx|pth?|safetensors)$",
    re.IGNORECASE,
)
EXPERIMENT = re.compile("refs/exps/([0-9a-f]{2})/([0-9a-f]{38,62})/")


def update(
    sandbox: Path,
    changes: dict[str, Any],
    project: Path = PROJECT,
    *,
    images: Path | None = None,
    demanded: Collection[str] = (),
) -> None:
    """Bring ``sandbox`` up to date with the working tree of ``project``, uncommitted changes too.

    The sandbox is a git and DVC repository of its own, so every `dvc` and `dvc exp` command works
    in it. What the project no longer has is removed. What a person changed there stays, and a note
    names it; so do results of earlier runs, and files that git does not track. In params.yaml a
    person's values stay, and the others follow.

    Args:
        changes: of params.yaml, for :func:`tools.merge.merge`.
        images: a person's own, which are not copied if they lie in the project.
        demanded: keys of params.yaml that take the value of ``changes`` in any case, such as
            images.path: somebody has just asked for them.
    """
    if not (sandbox / ".git").exists():
        sandbox.mkdir(parents=True, exist_ok=True)
        output(sandbox, "git", "init", "--quiet")
        _git(sandbox, "config", "user.name", "sandbox")
        _git(sandbox, "config", "user.email", "sandbox@localhost")
    last = _last_copied(sandbox)
    copied = _paths(_git(sandbox, "ls-tree", "-r", "-z", "--name-only", last) if last else "")
    changed = set(_paths(_git(sandbox, "diff", "-z", "--name-only", last) if last else ""))
    unchanged = set(copied) - changed
    names = [name for name in _sources(project, sandbox, images) if name != PARAMS]

    kept = []
    gone = set(copied) - set(names) - {PARAMS}
    for name in sorted(gone):
        if name in unchanged:
            _remove(sandbox, name)
        elif (sandbox / name).exists():
            kept.append(name)
    kept += [name for name in names if not _copy(project, sandbox, name, name in unchanged)]
    template = (project / PARAMS).read_text(encoding="utf-8")
    params = merge(read_yaml(project / PARAMS), changes)
    text = with_values(template, params)
    path = sandbox / PARAMS
    if PARAMS in unchanged or not path.exists():
        path.write_text(text, encoding="utf-8")
    else:
        old = _git(sandbox, "show", f"{last}:{PARAMS}") if PARAMS in copied else "{}"
        _follow(path, read_yaml_text(old), params, values_at(params, demanded))
        if path.read_text(encoding="utf-8") != text:
            kept.append(PARAMS)

    followed = sorted(gone.union(names, [PARAMS]).difference(kept))
    _remember(sandbox, last, followed, text)
    commit(sandbox, COMMIT_OF_COPY, *followed)
    if kept:
        print_note(
            f"{sandbox.name}/ keeps what was changed there: {listed(kept)}; to start afresh, "
            f"delete a file there, or {sandbox.name}/ as a whole, and run it again"
        )


def _git(sandbox: Path, *arguments: str, text: str | None = None, index: str = "") -> str:
    """What git says of the sandbox: never of a repository around it, and without anybody's hooks.

    Args:
        text: for its standard input.
        index: file of another index than the sandbox's own.

    Raises:
        UserError: it failed.
    """
    here = ("--git-dir=.git", "--work-tree=.", "-c", f"core.hooksPath={os.devnull}")
    variables = {"GIT_INDEX_FILE": index} if index else None
    command = ("git", *here, "--literal-pathspecs", *arguments)
    done = run(sandbox, *command, capture=True, text=text, variables=variables)
    if done.returncode:
        raise UserError(f"{sandbox}: git {arguments[0]}: {reason(done.stderr)}")
    return done.stdout


def _paths(listing: str) -> list[str]:
    """The paths that git lists with the option -z."""
    return [path for path in listing.split("\0") if path]


def _last_copied(sandbox: Path) -> str:
    """The commit of what was last copied from the project; empty if nothing was."""
    return _git(sandbox, "for-each-ref", "--format=%(objectname)", COPIED).strip()


def _sources(project: Path, sandbox: Path, images: Path | None) -> list[str]:
    """Files of the project that a copy needs: those that git tracks, and new ones beside them.

    New ones, because what somebody is writing is to run. But no photographs or archives, however
    they came there, and nothing in folders of which git tracks nothing. Without a repository, as in
    a ZIP file from GitHub, all files count as new.
    """
    new_files = ("ls-files", "-z", "--others", "--exclude-standard", *SOURCES)
    if (project / ".git").exists():
        tracked = _paths(output(project, "git", "ls-files", "-z", *SOURCES))
        new = _paths(output(project, "git", *new_files))
        if tracked:
            tops = {name.partition("/")[0] for name in tracked}
            new = [name for name in new if "/" not in name or name.partition("/")[0] in tops]
    else:
        # git lists files by the rules of .gitignore without a repository of theirs, too.
        ours = sandbox.resolve() / ".git"
        bare = (f"--git-dir={ours}", f"--work-tree={project.resolve()}")
        tracked = []
        with _no_index(ours) as variables:
            new = _paths(output(project, "git", *bare, *new_files, variables=variables))
    names = dict.fromkeys([*tracked, *(name for name in new if _may_be_code(project / name))])
    files = [name for name in names if (project / name).is_file()]
    if images is None:
        return files
    return [name for name in files if not (project / name).is_relative_to(images)]


def _may_be_code(path: Path) -> bool:
    if NOT_CODE.search(path.name) or not path.is_file():
        return False
    return path.stat().st_size <= LARGEST_SOURCE


def _copy(project: Path, sandbox: Path, name: str, is_replaceable: bool) -> bool:
    """Copy a file if it is not there or replaceable; says whether the sandbox has it now."""
    source = project / name
    target = sandbox / name
    if target.is_file() and target.read_bytes() == source.read_bytes():
        return True
    if target.exists() and not is_replaceable:
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):  # a person has a file where a folder should be
        return False
    # Whole or not at all: half a file would be taken for a person's after a kill.
    unfinished = target.with_name(f".{target.name}.part")
    shutil.copy2(source, unfinished)
    unfinished.replace(target)
    return True


def _remove(sandbox: Path, name: str) -> None:
    """Delete a file, and the folders that are empty then."""
    path = sandbox / name
    path.unlink(missing_ok=True)
    for folder in path.relative_to(sandbox).parents:
        if folder == Path() or any((sandbox / folder).iterdir()):
            break
        (sandbox / folder).rmdir()


def _follow(
    path: Path, before: dict[str, Any], params: dict[str, Any], demanded: dict[str, Any]
) -> None:
    """Let a person's params.yaml follow the project's, where they left a value as it was.

    Args:
        before: what was last copied.
        params: what is to be copied now.
        demanded: values that are set in any case.
    """
    theirs = read_yaml(path)
    if not isinstance(theirs, dict):
        raise UserError(f"{path}: holds no params; delete it to get the project's again")
    values = layer(three_way(before, theirs, params), demanded)
    if values != theirs:
        text = with_values(path.read_text(encoding="utf-8"), values)
        path.write_text(text, encoding="utf-8")


def _remember(sandbox: Path, last: str, names: Sequence[str], params: str) -> None:
    """Keep as ``COPIED`` what files ``names`` are now, or that they are gone, and params.yaml.

    What a person changed stays there as it was last copied.

    Args:
        params: text of the project's, whatever a person made of it.
    """
    with _no_index(sandbox / ".git") as variables:
        index = variables["GIT_INDEX_FILE"]
        _git(sandbox, "read-tree", last or "--empty", index=index)
        stdin = ("--add", "--remove", "--replace", "-z", "--stdin")
        _git(sandbox, "update-index", *stdin, text=_listing(names), index=index)
        blob = _git(sandbox, "hash-object", "-w", "--stdin", text=params).strip()
        entry = ("--add", "--cacheinfo", f"100644,{blob},{PARAMS}")
        _git(sandbox, "update-index", *entry, index=index)
        tree = _git(sandbox, "write-tree", index=index).strip()
    if last and tree == _git(sandbox, "rev-parse", f"{last}^{{tree}}").strip():
        copied = last
    else:
        copied = _git(sandbox, "commit-tree", "-m", COMMIT_OF_COPY, tree).strip()
    _git(sandbox, "update-ref", COPIED, copied)


@contextmanager
def _no_index(folder: Path) -> Iterator[dict[str, str]]:
    """Variables by which git takes an index of its own, empty at first."""
    index = folder.resolve() / "sandbox.index"
    index.unlink(missing_ok=True)
    try:
        yield {"GIT_INDEX_FILE": str(index)}
    finally:
        index.unlink(missing_ok=True)


def commit(sandbox: Path, message: str, *paths: str, by_nobody: bool = False) -> None:
    """Commit ``paths``, or all of the sandbox that git does not ignore, if anything changed.

    With paths, what somebody has staged besides stays as it is.

    Args:
        by_nobody: whether to need no name of the user, as in a repository that is no sandbox.
    """
    listed_paths = ("--pathspec-from-file=-", "--pathspec-file-nul")  # no command line is too long
    if paths:
        tracked = _with_folders(_paths(_git(sandbox, "ls-files", "-z")))
        known = [path for path in paths if path in tracked or (sandbox / path).exists()]
        _git(sandbox, "add", "--all", "--force", *listed_paths, text=_listing(known))
    else:
        _git(sandbox, "add", "--all", ".")
    staged = _paths(_git(sandbox, "diff", "--cached", "-z", "--name-only", "--no-renames"))
    if paths:
        staged = [name for name in staged if not _with_folders([name]).isdisjoint(paths)]
    if staged:
        options = ("--quiet", "--no-gpg-sign", "--message", message, "--only", *listed_paths)
        nobody = ("-c", "user.name=sandbox", "-c", "user.email=sandbox@localhost")
        names = nobody if by_nobody else ()
        _git(sandbox, *names, "commit", *options, text=_listing(staged))


def is_edited(sandbox: Path) -> bool:
    """Whether a file that git tracks differs from the last commit, apart from results."""
    changed = _paths(_git(sandbox, "diff", "-z", "--name-only", "--no-renames", "HEAD"))
    return any(_with_folders([name]).isdisjoint(RESULTS) for name in changed)


def has_older_experiments(sandbox: Path) -> bool:
    """Whether there are DVC experiments, but none on the last commit: `dvc exp list` lists none."""
    head = _git(sandbox, "rev-parse", "HEAD").strip()
    # refs/exps/AB/CDEF.../NAME is on the commit ABCDEF...; refs/exps/stash and others are none.
    refs = _git(sandbox, "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    commits = {"".join(match.groups()) for ref in refs if (match := EXPERIMENT.match(ref))}
    return bool(commits) and head not in commits


def _listing(paths: Iterable[str]) -> str:
    """Paths as git reads them with the option -z."""
    return "".join(f"{path}\0" for path in paths)


def _with_folders(paths: Iterable[str]) -> set[str]:
    """Paths, and the folders that they are in."""
    found = set(paths)
    for path in paths:
        found.update(map(str, PurePosixPath(path).parents))
    return found
