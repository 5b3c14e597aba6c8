"""What changed between base and a commit: the numbers, the paths, and a patch that makes the same tree again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from runner.errors import RepoError
from runner.repo.git import MAX_OUTPUT, OutputTooLong, git, printable
from runner.result import DiffStat

DIFF_SECONDS = 120.0
NO_FILE = "000000"
SUBMODULE = "160000"
PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
"""Options that keep a diff independent of attributes and configuration. (The quarantine has no attributes.)"""


class Change(NamedTuple):
    """One file that differs, as `git diff-tree --raw` has it."""

    old_mode: str
    """Six octal digits; NO_FILE where there is none."""
    new_mode: str
    old_id: str
    new_id: str
    path: str
    """Bytes as `os.fsdecode` gives them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Base against one commit."""

    stat: DiffStat
    """A renamed file counts as one, with the lines that differ, as `git diff --stat` has it."""
    changed: tuple[str, ...]
    """Every path added, removed or changed, both names of a renamed file; bytes as `os.fsdecode` gives them."""
    patch: bytes | None
    """For `git apply` on base; None when it is longer than allowed."""


def compare(repo: Path, base: str, commit: str, *, patch_bytes: int) -> Difference:
    """The difference from `base` to `commit`, renames found. Raises RepoError when git fails or is too slow."""
    names = git(repo, *_tree("--name-only"), base, commit, seconds=DIFF_SECONDS, guarded=True).split(b"\0")
    changed = tuple(os.fsdecode(name) for name in names if name)
    counts = tuple(_counts(git(repo, *_tree("--numstat", "-M", *PLAIN), base, commit, guarded=True)))
    stat = DiffStat(
        files=len(counts),
        insertions=sum(added for added, _ in counts),
        deletions=sum(removed for _, removed in counts),
        paths=tuple(name.decode("utf-8", "replace") for name in names if name),
    )
    return Difference(stat=stat, changed=changed, patch=_patch(repo, base, commit, patch_bytes))


def changes(repo: Path, base: str, commit: str, *, max_bytes: int = MAX_OUTPUT) -> tuple[Change, ...]:
    """The files that differ, by path. Raises OutputTooLong."""
    command = (*_tree("--raw", "--no-abbrev", "--no-renames"), base, commit)
    return _changes(git(repo, *command, max_bytes=max_bytes, seconds=DIFF_SECONDS, guarded=True))


def changes_by_commit(repo: Path, commits: Sequence[str]) -> tuple[Change, ...]:
    """What each of the commits changes against its parent, one after the other."""
    command = _tree("--stdin", "--raw", "--no-abbrev", "--no-renames", "--no-commit-id")
    stdin = "".join(f"{commit}\n" for commit in commits).encode()
    return _changes(git(repo, *command, stdin=stdin, seconds=DIFF_SECONDS, guarded=True))


def check_paths(repo: Path, parent: str, commit: str, *, paths: int, depth: int) -> None:
    """Refuse a commit that changes more than `paths` files, one of them below `depth` folders, or adds a submodule."""
    # Trees that name one subtree many times are small and stand for millions of files: the output is cut off.
    try:
        changed = changes(repo, parent, commit, max_bytes=paths * 400)
    except OutputTooLong as error:
        raise RepoError(f"a commit changes more than {paths} files") from error
    if len(changed) > paths:
        raise RepoError(f"a commit changes more than {paths} files")
    for change in changed:
        shown = printable(os.fsencode(change.path).decode("utf-8", "replace"), 80)
        if change.new_mode == SUBMODULE:
            raise RepoError(f"{shown} is a submodule; these cannot be taken over")
        if change.path.count("/") >= depth:
            raise RepoError(f"{shown} lies more than {depth} folders deep")


def _changes(out: bytes) -> tuple[Change, ...]:
    fields = out.split(b"\0")[:-1]
    return tuple(_change(entry, path) for entry, path in zip(fields[::2], fields[1::2], strict=True))


def _change(entry: bytes, path: bytes) -> Change:
    old_mode, new_mode, old_id, new_id, _ = entry.decode("ascii").removeprefix(":").split(" ")
    return Change(old_mode, new_mode, old_id, new_id, os.fsdecode(path))


def _tree(*options: str) -> tuple[str, ...]:
    return ("diff-tree", "-r", "-z", *options)


def _counts(out: bytes) -> Iterator[tuple[int, int]]:
    """Lines added and removed per file, of `--numstat -z`: a rename is followed by two more fields, its names."""
    fields = iter(out.split(b"\0"))
    for entry in fields:
        if not entry:
            return
        added, removed, path = entry.split(b"\t", 2)
        if not path:
            next(fields), next(fields)
        # Binary files have "-" for both.
        yield (0, 0) if added == b"-" else (int(added), int(removed))


def _patch(repo: Path, base: str, commit: str, limit: int) -> bytes | None:
    # Not -z: it would put names into the patch as they are, which `git apply` does not read.
    command = ("diff-tree", "-r", "--patch", "--binary", "--full-index", "-M", *PLAIN, base, commit)
    try:
        return git(repo, *command, max_bytes=limit, seconds=DIFF_SECONDS, guarded=True)
    except OutputTooLong:
        return None
