"""Paths that the checks must see as base has them, whatever the agent did to them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from runner.errors import RepoError
from runner.repo.git import git, identity
from runner.repo.quarantine import Quarantine
from runner.repo.take import Taken
from runner.task import Author


def changed_protected(quarantine: Quarantine, taken: Taken, globs: Sequence[str]) -> tuple[str, ...]:
    """The paths under `globs` that the work adds, changes or removes; bytes as `os.fsdecode` gives them.

    A glob is git's: `*` stays within a folder, `**/` and `/**` do not, and a folder stands for all that is in it.
    """
    if taken.commit is None or not globs:
        return ()
    command = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", quarantine.base, taken.commit)
    out = quarantine.git(*command, "--", *_pathspecs(globs))
    return tuple(os.fsdecode(path) for path in out.split(b"\0") if path)


def restore_protected(quarantine: Quarantine, taken: Taken, globs: Sequence[str]) -> str:
    """The commit that the checks run on: the work, with everything under `globs` as base has it.

    What the agent added there is gone, what it removed or changed is back, and what stands in the way of that (a file
    or link where base has a folder) is gone too. The work's own commit when it touches none of it.
    """
    if taken.commit is None:
        return quarantine.base
    if not changed_protected(quarantine, taken, globs):
        return taken.commit
    with tempfile.TemporaryDirectory(dir=quarantine.path, prefix="checks-") as scratch:
        tree = _restored_tree(quarantine, taken.commit, globs, index=Path(scratch) / "index")
    commit = ("commit-tree", tree, "-p", taken.commit, "-m", "Protected paths as base has them")
    made = git(quarantine.path, *commit, variables=identity(Author(), int(time.time()))).decode().strip()
    quarantine.git("update-ref", f"refs/claw/checks/{made}", made)
    return made


def _restored_tree(quarantine: Quarantine, commit: str, globs: Sequence[str], *, index: Path) -> str:
    def indexed(*args: str, stdin: bytes = b"") -> bytes:
        variables = {"GIT_INDEX_FILE": str(index)}
        return git(quarantine.path, *args, stdin=stdin, variables=variables, guarded=True)

    indexed("read-tree", quarantine.base)
    theirs = indexed("ls-files", "-z", "--stage", "--", *_pathspecs(globs))
    indexed("read-tree", commit)
    ours = indexed("ls-files", "-z", "--", *_pathspecs(globs)).split(b"\0")[:-1]
    gone = b"".join(b"0 " + quarantine.base.encode() + b"\t" + path + b"\0" for path in ours)  # mode 0: remove
    # --index-info replaces what stands in the way, and needs no work tree.
    indexed("update-index", "-z", "--index-info", stdin=gone + theirs)
    return indexed("write-tree").decode().strip()


def _pathspecs(globs: Sequence[str]) -> list[str]:
    return [f":(top,glob){_relative(glob)}" for glob in globs]


def _relative(glob: str) -> str:
    path = glob.removeprefix("./").lstrip("/")
    if not path or ".." in path.split("/"):
        raise RepoError(f"checks.protect: {glob!r} does not name paths in the repository")
    return path
