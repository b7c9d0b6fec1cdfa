"""Do DVC's cache and the outs hold what DVC believes? Usage: python -m tools.doctor

DVC believes a cached file that is read-only, and an out whose size and time it knows, without
reading it. Here every byte is read: after a power cut, or when a disk is failing. What is damaged
in the cache is deleted, for nothing can use it; a damaged out stays, but is touched, so that
`dvc repro` reads it too. (.cache/ needs no doctor: its files are verified when they are read.)
"""

import json
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.rwlock import rwlock
from dvc.utils import dict_sha256
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_objects.fs import localfs

from pipeline.base.errors import UserError, for_people
from pipeline.base.files import hex_digest
from pipeline.base.progress import progress
from pipeline.params import read_yaml


def main() -> int:
    repo = Repo()
    damaged = 0
    for line in chain(lock_file(Path(repo.tmp_dir, "rwlock")), under_locks(repo)):
        print(line)
        damaged += 1
    if damaged:
        print(f"{damaged} damaged: `dvc repro` makes them again")
    else:
        print("cache and outs are as they should be")
    return int(bool(damaged))


def lock_file(path: Path) -> Iterator[str]:
    """Delete DVC's list of running stages if a kill cut it short: DVC would not start."""
    try:
        json.loads(path.read_text(encoding="utf-8") if path.exists() else "{}")
    except ValueError:
        path.unlink()
        yield f"{path}: cut short, deleted"


def under_locks(repo: Repo) -> Iterator[str]:
    """All other checks, while no stage runs.

    Raises:
        UserError: one runs.
    """
    try:
        with repo.lock, rwlock(repo.tmp_dir, localfs, "doctor", [], [repo.root_dir], False):
            yield from cache(Path(repo.cache.local.path))
            yield from runs(Path(repo.stage_cache.cache_dir))
            yield from outs(repo)
    except DvcException as error:
        raise UserError(" ".join(str(error).split())) from None


def cache(folder: Path) -> Iterator[str]:
    """Delete files of DVC's cache that do not hold what their names say.

    A name is the MD5 of the content; a folder's list has `.dir` behind it.
    """
    files = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    for path in progress(files, sum(files.values()), "cache", "B", files.__getitem__):
        if hex_digest(path, "md5") != path.parent.name + path.name.removesuffix(".dir"):
            path.unlink()
            yield f"{path}: {'unfinished' if path.suffix == '.tmp' else 'damaged'}, deleted"


def runs(folder: Path) -> Iterator[str]:
    """Delete damaged records of earlier runs, which are named by a SHA-256 of what they say."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            intact = dict_sha256(read_yaml(path), exclude=["size", "nfiles"]) == path.name
        except (UserError, TypeError):
            intact = False
        if not intact:
            path.unlink()
            yield f"{path}: damaged, deleted"


def outs(repo: Repo) -> Iterator[str]:
    """Touch the outs that are not what dvc.lock says."""
    lock = Path("dvc.lock")
    stages = read_yaml(lock)["stages"] if lock.exists() else {}
    every = [out for stage in stages.values() for out in stage["outs"]]
    paths = [(Path(out["path"]), out["md5"]) for out in every]
    found = [(path, digest) for path, digest in paths if path.exists()]
    bare = LocalHashFileDB(localfs, repo.cache.local.path)  # one that remembers no digests
    for path, digest in progress(found, len(found), "outs", "outs"):
        _, _, content = build(bare, str(path), localfs, "md5", dry_run=True, ignore=repo.dvcignore)
        if content.hash_info.value != digest:
            for file in (path, *path.rglob("*")):
                os.utime(file)
            yield f"{path}: damaged, or edited: keep a copy of an edit of your own"


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
