"""What the work adds to the repository: lines that base has in none of the files that the work touches."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.repo.diff import NO_FILE, SUBMODULE, Change, changes_by_commit
from runner.repo.quarantine import Quarantine
from runner.repo.take import Taken
from runner.repo.tree import contents, entries, sizes

READ_BYTES = 32 * 1024 * 1024
"""Of touched files, as the work has them, and as much again as base has them. Beyond that they are not read."""
GIT_LOOKS_AT = 8000
"""A file with a zero byte among so many at its beginning is binary to git."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Addition:
    """What one file has that base has not."""

    path: str
    """Of the file, in the first of the commits that has this content."""
    data: bytes
    """The new lines, one after the other."""
    lines: Sequence[int]
    """Their numbers in the file, from 1."""
    binary: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TooMuch:
    """The touched files are too large to be read."""

    size: int


def additions(quarantine: Quarantine, taken: Taken, changed: Sequence[Change]) -> tuple[Addition, ...] | TooMuch:
    """What the commits of the work add, each content once, in order of the paths; `changed` is the sum of them.

    What one commit adds and a later one takes away again is in the branch as well.
    """
    touched = changed if len(taken.commits) == 1 else changes_by_commit(quarantine.path, taken.commits)
    old = {change.old_id for change in changed if change.old_mode not in (NO_FILE, SUBMODULE)}
    if left := {change.path for change in touched} - {change.path for change in changed}:
        old |= {entry.id for entry in entries(quarantine, quarantine.base) if entry.path in left}
    paths: dict[str, str] = {}
    for change in sorted(touched, key=lambda change: change.path):
        if change.new_mode not in (NO_FILE, SUBMODULE) and change.new_id not in old:
            paths.setdefault(change.new_id, change.path)
    if (size := sum(sizes(quarantine, paths).values())) > READ_BYTES:
        return TooMuch(size=size)
    known = _known_lines(quarantine, sorted(old))
    found = contents(quarantine, paths, max_bytes=READ_BYTES)
    return tuple(_addition(paths[id], data, known) for id, data in found.items())


def _known_lines(quarantine: Quarantine, old: Sequence[str]) -> frozenset[bytes]:
    """The lines of the touched files in base. When those are too large to be read, all lines count as new."""
    if sum(sizes(quarantine, old).values()) > READ_BYTES:
        return frozenset()
    found = contents(quarantine, old, max_bytes=READ_BYTES)
    return frozenset(line for data in found.values() for line in _lines(data))


def _addition(path: str, data: bytes, known: frozenset[bytes]) -> Addition:
    new, numbers = bytearray(), array("I")
    for number, line in enumerate(_lines(data), 1):
        if line not in known:
            new += line + b"\n"
            numbers.append(number)
    return Addition(path=path, data=bytes(new), lines=numbers, binary=b"\0" in data[:GIT_LOOKS_AT])


def _lines(data: bytes) -> Iterator[bytes]:
    """One at a time, for a file may have millions."""
    return (line.rstrip(b"\r\n") for line in io.BytesIO(data))
