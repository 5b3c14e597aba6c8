"""What a commit in the quarantine holds: its files, and their contents."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from runner.repo.git import git, stream
from runner.repo.quarantine import COPY_SECONDS, Quarantine

LINK = "120000"


class Entry(NamedTuple):
    """One file, link or submodule of a tree."""

    mode: str
    id: str
    path: str
    """From the repository's root; bytes as `os.fsdecode` gives them."""
    line: bytes
    """As `git ls-tree -z` has it: mode, type, id, path."""


def entries(quarantine: Quarantine, commit: str) -> Iterator[Entry]:
    """All files of a commit, by path."""
    for line in pieces(quarantine, b"\0", "ls-tree", "-r", "-z", "--full-tree", commit):
        facts, _, path = line.partition(b"\t")
        mode, _, id = facts.decode("ascii").split(" ")
        yield Entry(mode, id, os.fsdecode(path), line)


def names(quarantine: Quarantine, commit: str) -> tuple[str, ...]:
    """The paths of `entries`, at a fifth of the cost."""
    listed = ("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
    return tuple(os.fsdecode(git(quarantine.path, *listed, guarded=True)).split("\0")[:-1])


def sizes(quarantine: Quarantine, ids: Iterable[str]) -> dict[str, int]:
    """Bytes of each content."""
    known = dict.fromkeys(ids)
    if not known:
        return {}
    stdin = "".join(f"{id}\n" for id in known).encode()
    out = git(quarantine.path, "cat-file", "--batch-check=%(objectsize)", stdin=stdin, guarded=True)
    return dict(zip(known, map(int, out.split()), strict=True))


def contents(quarantine: Quarantine, ids: Iterable[str], *, max_bytes: int) -> dict[str, bytes]:
    """The contents, of `max_bytes` at most in all. Raises OutputTooLong."""
    known = dict.fromkeys(ids)
    if not known:
        return {}
    stdin = "".join(f"{id}\n" for id in known).encode()
    max_bytes += 200 * len(known)  # a line with id, type and size precedes each
    out = memoryview(git(quarantine.path, "cat-file", "--batch", stdin=stdin, max_bytes=max_bytes, guarded=True))
    found, at = {}, 0
    for id in known:
        end = bytes(out[at : at + 200]).index(b"\n") + at
        size = int(bytes(out[at:end]).split(b" ")[2])
        found[id] = bytes(out[end + 1 : end + 1 + size])
        at = end + size + 2
    return found


def pieces(quarantine: Quarantine, end: bytes, *command: str) -> Iterator[bytes]:
    """What a git command prints, piece by piece: of a large history it is too much to hold."""
    with stream(quarantine.path, *command, seconds=COPY_SECONDS) as chunks:
        rest = b""
        for chunk in chunks:
            *whole, rest = (rest + chunk).split(end)
            yield from whole
