"""Paths that the checks must see as base has them, whatever the agent did to them: protected ones, and what steers."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.errors import RepoError
from runner.repo.diff import NO_FILE, Change, changes
from runner.repo.git import OutputTooLong, git, identity
from runner.repo.quarantine import Quarantine
from runner.repo.steering import steering
from runner.repo.take import Taken
from runner.repo.tree import contents
from runner.task import Author

MOST_BYTES = 1_000_000
"""Of a configuration file that is compared by its sections."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Steered:
    """A change of the work that steers the checks."""

    change: Change
    why: str
    """`which …`, to follow the path."""


def changed_protected(quarantine: Quarantine, taken: Taken, globs: Sequence[str]) -> tuple[str, ...]:
    """The paths under `globs` that the work adds, changes or removes; bytes as `os.fsdecode` gives them.

    A glob is git's: `*` stays within a folder, `**/` and `/**` do not, and a folder stands for all that is in it.
    """
    return _changed_under(quarantine, taken, globs, "checks.protect")


def changed_steering(
    quarantine: Quarantine, taken: Taken, commands: Sequence[str], *, trust: Sequence[str] = ()
) -> tuple[Steered, ...]:
    """What of the work steers the checks (`runner.repo.steering`), without what is under the globs in `trust`.

    `commands` are those of the checks and of setup.
    """
    if taken.commit is None:
        return ()
    changed = changes(quarantine.path, quarantine.base, taken.commit)
    found = steering(changed, lambda id: _content(quarantine, id), commands=commands)
    trusted = _changed_under(quarantine, taken, trust, "checks.trust") if found else ()
    return tuple(
        Steered(change=change, why=found[change.path])
        for change in changed
        if change.path in found and change.path not in trusted
    )


def restore_protected(
    quarantine: Quarantine, taken: Taken, globs: Sequence[str], *, steered: Sequence[Steered] = ()
) -> str:
    """The commit that the checks run on: the work, with `steered` and everything under `globs` as base has it.

    What the agent added there is gone, what it removed or changed is back, and what stands in the way of that (a file
    or link where base has a folder) is gone too. The work's own commit when it touches none of it.
    """
    if taken.commit is None:
        return quarantine.base
    if not steered and not changed_protected(quarantine, taken, globs):
        return taken.commit
    with tempfile.TemporaryDirectory(dir=quarantine.path, prefix="checks-") as scratch:
        tree = _restored_tree(quarantine, taken.commit, globs, steered, index=Path(scratch) / "index")
    commit = ("commit-tree", tree, "-p", taken.commit, "-m", "What steers the checks as base has it")
    made = git(quarantine.path, *commit, variables=identity(Author(), int(time.time()))).decode().strip()
    quarantine.git("update-ref", f"refs/claw/checks/{made}", made)
    return made


def _content(quarantine: Quarantine, id: str) -> bytes:
    """Raises ValueError for one that is too large to be a configuration file."""
    try:
        return contents(quarantine, [id], max_bytes=MOST_BYTES)[id]
    except OutputTooLong as error:
        raise ValueError(f"more than {MOST_BYTES:,} bytes") from error


def _changed_under(quarantine: Quarantine, taken: Taken, globs: Sequence[str], key: str) -> tuple[str, ...]:
    if taken.commit is None or not globs:
        return ()
    command = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", quarantine.base, taken.commit)
    out = quarantine.git(*command, "--", *_pathspecs(globs, key))
    return tuple(os.fsdecode(path) for path in out.split(b"\0") if path)


def _restored_tree(
    quarantine: Quarantine, commit: str, globs: Sequence[str], steered: Sequence[Steered], *, index: Path
) -> str:
    def indexed(*args: str, stdin: bytes = b"") -> bytes:
        variables = {"GIT_INDEX_FILE": str(index)}
        return git(quarantine.path, *args, stdin=stdin, variables=variables, guarded=True)

    def under_globs(*options: str) -> bytes:
        return indexed("ls-files", "-z", *options, "--", *_pathspecs(globs, "checks.protect")) if globs else b""

    indexed("read-tree", quarantine.base)
    theirs = under_globs("--stage") + b"".join(_entry(one.change) for one in steered)
    indexed("read-tree", commit)
    ours = [*under_globs().split(b"\0")[:-1], *(os.fsencode(one.change.path) for one in steered)]
    gone = b"".join(b"0 " + quarantine.base.encode() + b"\t" + path + b"\0" for path in ours)  # mode 0: remove
    # --index-info replaces what stands in the way, and needs no work tree.
    indexed("update-index", "-z", "--index-info", stdin=gone + theirs)
    return indexed("write-tree").decode().strip()


def _entry(change: Change) -> bytes:
    """What base has there, for `git update-index --index-info`; nothing for what the work adds."""
    if change.old_mode == NO_FILE:
        return b""
    return f"{change.old_mode} {change.old_id}\t".encode() + os.fsencode(change.path) + b"\0"


def _pathspecs(globs: Sequence[str], key: str) -> list[str]:
    return [f":(top,glob){_relative(glob, key)}" for glob in globs]


def _relative(glob: str, key: str) -> str:
    path = glob.removeprefix("./").lstrip("/")
    if not path or ".." in path.split("/"):
        raise RepoError(f"{key}: {glob!r} does not name paths in the repository")
    return path
