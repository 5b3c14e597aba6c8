"""What changed between base and a commit: the numbers, the paths, and a patch that makes the same tree again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.errors import RepoError
from runner.repo.git import OutputTooLong, git, printable
from runner.result import DiffStat

DIFF_SECONDS = 120.0
PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
"""Options that keep a diff independent of attributes and configuration. (The quarantine has no attributes.)"""


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


def check_paths(repo: Path, parent: str, commit: str, *, paths: int, depth: int) -> None:
    """Refuse a commit that changes more than `paths` files, one of them below `depth` folders, or adds a submodule."""
    # Trees that name one subtree many times are small and stand for millions of files: the output is cut off.
    try:
        out = git(
            repo,
            *_tree("--raw", "--no-abbrev"),
            parent,
            commit,
            max_bytes=paths * 400,
            seconds=DIFF_SECONDS,
            guarded=True,
        )
    except OutputTooLong as error:
        raise RepoError(f"a commit changes more than {paths} files") from error
    fields = out.split(b"\0")[:-1]
    if len(fields) // 2 > paths:
        raise RepoError(f"a commit changes more than {paths} files")
    for entry, path in zip(fields[::2], fields[1::2], strict=True):
        shown = printable(path.decode("utf-8", "replace"), 80)
        if entry.split(b" ")[1] == b"160000":
            raise RepoError(f"{shown} is a submodule; these cannot be taken over")
        if path.count(b"/") >= depth:
            raise RepoError(f"{shown} lies more than {depth} folders deep")


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
