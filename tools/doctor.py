"""Do DVC's cache and the outs hold what DVC believes? Usage: python -m tools.doctor

DVC believes a cached file that is read-only, and an out whose size and time it knows, without reading it. Here every
byte is read: after a power cut, or when a disk is failing. What is damaged in the cache is deleted, for it can serve
nobody; a damaged out stays, but is touched, so that `dvc repro` reads it too.
"""

import json
import os
import sys
from collections.abc import Iterator
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
from tools.sandbox import PROJECT


def main() -> int:
    repo, damaged = Repo(str(PROJECT)), 0
    busy = Path(repo.tmp_dir, "rwlock")  # which stages run; a kill can cut it short, and then DVC does not start
    try:
        json.loads(busy.read_text(encoding="utf-8") if busy.exists() else "{}")
    except ValueError:
        busy.unlink()
        damaged += 1
        print(f"{busy}: cut short, deleted")
    try:
        with repo.lock, rwlock(repo.tmp_dir, localfs, "doctor", [], [repo.root_dir], False):  # no stage runs meanwhile
            for line in (*cache(Path(repo.cache.local.path)), *runs(Path(repo.stage_cache.cache_dir)), *outs(repo)):
                print(line)
                damaged += 1
    except DvcException as error:
        raise UserError(" ".join(str(error).split())) from None
    print(f"{damaged} damaged: `dvc repro` makes them again" if damaged else "cache and outs are as they should be")
    return int(bool(damaged))


def cache(folder: Path) -> Iterator[str]:
    """Delete files whose content is not what they are named by (MD5; a folder's list has `.dir` behind it)."""
    files = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    for path in progress(files, sum(files.values()), "cache", "B", files.__getitem__):
        if hex_digest(path, "md5") != path.parent.name + path.name.removesuffix(".dir"):
            path.unlink()
            yield f"{path}: {'unfinished' if path.suffix == '.tmp' else 'damaged'}, deleted"


def runs(folder: Path) -> Iterator[str]:
    """Delete damaged records of earlier runs, named by a SHA-256 of what they say."""
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
    lock = read_yaml(PROJECT / "dvc.lock")["stages"] if (PROJECT / "dvc.lock").exists() else {}
    known = [(PROJECT / out["path"], out["md5"]) for entry in lock.values() for out in entry["outs"]]
    found = [(path, digest) for path, digest in known if path.exists()]
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
