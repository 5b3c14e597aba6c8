"""A patch as files, hunks and lines, for display. Reads what `git diff` writes; what it does not know it leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

MOST_LINES = 6_000
MOST_FILE_LINES = 800
LONGEST_LINE = 600
OPEN_LINES = 1_500
"""Files are unfolded until so many lines are shown."""


class Line(NamedTuple):
    kind: Literal["add", "del", "same", "hunk", "note"]
    text: str
    old: int | None = None
    new: int | None = None


@dataclass(kw_only=True)
class FileDiff:
    path: str
    change: str = "modified"
    """modified, added, deleted, renamed …"""
    binary: bool = False
    insertions: int = 0
    deletions: int = 0
    lines: list[Line] = field(default_factory=list)
    left_out: int = 0
    """Lines that are not shown."""
    unfolded: bool = False


_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")


def parse_patch(patch: bytes) -> list[FileDiff]:
    """The files of a patch, in its order, with at most MOST_LINES lines in all."""
    files: list[FileDiff] = []
    lines = iter(patch.decode("utf-8", "replace").split("\n"))
    for line in lines:
        if line.startswith("diff --git "):
            files.append(FileDiff(path=_path_of_header(line)))
        elif files and (hunk := _HUNK.match(line)):
            _take_hunk(files[-1], line, hunk, lines)
        elif files and line.startswith("\\"):
            files[-1].lines.append(Line("note", line[1:].strip()))
        elif files:
            _take_header(files[-1], line)
    _bound(files)
    return files


def _take_header(file: FileDiff, line: str) -> None:
    """One of the lines between `diff --git` and the first hunk."""
    key, _, rest = line.partition(" ")
    match key, rest:
        case "+++" | "---", name if not name.startswith("/dev/null"):
            file.path = _unquoted(name.removesuffix("\t")).partition("/")[2]
        case "new", mode if mode.startswith("file mode"):
            file.change = _with_mode("added", mode)
        case "deleted", mode if mode.startswith("file mode"):
            file.change = "deleted"
        case "new", mode if mode.startswith("mode "):
            file.change = f"mode {mode.removeprefix('mode ')}"
        case "rename" | "copy", source if source.startswith("from "):
            file.change = f"{'renamed' if key == 'rename' else 'copied'} from {_unquoted(source.removeprefix('from '))}"
        case "rename" | "copy", target if target.startswith("to "):
            file.path = _unquoted(target.removeprefix("to "))
        case ("Binary", _) | ("GIT", "binary patch"):
            file.binary = True


def _with_mode(change: str, mode: str) -> str:
    kinds = {"100755": ", executable", "120000": ", symbolic link", "160000": ", submodule"}
    return change + kinds.get(mode.removeprefix("file mode "), "")


def _take_hunk(file: FileDiff, header: str, hunk: re.Match[str], lines: Iterator[str]) -> None:
    """The lines of one hunk, by its counts: a removed line may look like a header."""
    old, new = int(hunk[1]), int(hunk[3])
    old_end, new_end = old + int(hunk[2] or 1), new + int(hunk[4] or 1)
    file.lines.append(Line("hunk", header))
    while old < old_end or new < new_end:
        line = next(lines, None)
        if line is None:
            return
        text = _shortened(line[1:])
        match line[:1]:
            case "+":
                file.lines.append(Line("add", text, None, new))
                file.insertions, new = file.insertions + 1, new + 1
            case "-":
                file.lines.append(Line("del", text, old, None))
                file.deletions, old = file.deletions + 1, old + 1
            case "\\":
                file.lines.append(Line("note", text.strip()))
            case _:
                file.lines.append(Line("same", text, old, new))
                old, new = old + 1, new + 1


def _shortened(text: str) -> str:
    text = text.replace("\r", "␍")
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} … {len(text) - LONGEST_LINE:,} more"


def _bound(files: list[FileDiff]) -> None:
    """Keep the beginning of every file while there is room; unfold the first files."""
    room, open_room = MOST_LINES, OPEN_LINES
    for file in files:
        keep = min(len(file.lines), MOST_FILE_LINES, room)
        file.left_out = len(file.lines) - keep
        del file.lines[keep:]
        room -= keep
        file.unfolded = 0 < keep <= open_room
        open_room -= keep


def _path_of_header(line: str) -> str:
    """The new name in `diff --git a/NAME b/NAME`; exact when both are equal, which is when nothing else tells it."""
    names = line.removeprefix("diff --git ")
    if names.startswith('"'):
        return _unquoted(names[: len(names) // 2]).partition("/")[2]
    return names[: len(names) // 2].partition("/")[2]


_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def _unquoted(name: str) -> str:
    """A path as git writes it: in double quotes with C escapes when it has odd characters."""
    if not (len(name) >= 2 and name[0] == name[-1] == '"'):
        return name
    raw = _ESCAPE.sub(lambda m: _byte(m[1]), name[1:-1].encode("utf-8", "replace"))
    return raw.decode("utf-8", "replace")


def _byte(escape: bytes) -> bytes:
    return bytes([int(escape, 8) & 0xFF]) if len(escape) == 3 else _LETTERS.get(escape, escape)
