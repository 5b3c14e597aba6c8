"""Edit: replace a piece of a text file, byte for byte, and touch nothing else of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.policy import Call
from runner.tools.arguments import Content, Flag, Word
from runner.tools.base import Answer, Session, Tool, failure
from runner.tools.paths import path_calls
from runner.tools.read import decode, load, number_lines, sha256, split_lines

_CONTEXT_LINES = 4
_MAX_SNIPPET_LINES = 40
_NAMED_PLACES = 10
_MAX_PLACES = 1_000
"""Places that are looked for: a file may be nothing but one letter."""
_LINE_NUMBER = re.compile(r"^ *\d+\t")


class Edit(Tool):
    """Replaces old_string by new_string in a text file.

    old_string must occur exactly once, or the edit is refused: give enough lines around it to make it unique, or set
    replace_all. It must match the file exactly, with its indentation and without the line numbers that Read shows.
    """

    file_path: Word
    """Absolute path of the file (a relative one starts at the repository)."""
    old_string: Content
    """The text to replace."""
    new_string: Content
    """The text to put in its place; it must differ."""
    replace_all: Flag | None = None
    """Replace every occurrence."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return path_calls("Edit", self.file_path, session)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        given, path = calls[0].subject, calls[-1].subject
        if not self.old_string:
            return failure("old_string is empty. To create a file or replace all of it use Write.")
        if self.old_string == self.new_string:
            return failure("old_string and new_string are the same: nothing to do.")
        before = load("Edit", calls, session)
        if isinstance(before, Answer):
            return before
        piece = find(before, self.old_string, self.new_string)
        if not piece.places:
            return failure(f"old_string was not found in {given}.{_hint(before, self.old_string)}", matches=0)
        if len(piece.places) > 1 and not self.replace_all:
            return failure(_ambiguous(given, before, piece.places), matches=len(piece.places))
        after = before.replace(piece.old, piece.new)
        return _write(session, given, path, before, after, piece)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What to replace in the bytes of a file, and where it begins; places may overlap."""

    old: bytes
    new: bytes
    places: tuple[int, ...]


def find(data: bytes, old: str, new: str) -> Piece:
    """Where `old` stands, if need be with the line ends of the file: Read shows CRLF and LF alike."""
    crlf = data.count(b"\r\n") * 2 > data.count(b"\n")
    given = (old.encode(), new.encode())
    adapted = (_with_crlf(old), _with_crlf(new))
    variants = [given] if "\r" in old + new else [adapted, given] if crlf else [given, adapted]
    pieces = [Piece(old=o, new=n, places=_places(data, o)) for o, n in variants]
    return next((piece for piece in pieces if piece.places), pieces[0])


def _with_crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _places(data: bytes, old: bytes) -> tuple[int, ...]:
    places: list[int] = []
    place = data.find(old)
    while place >= 0 and len(places) < _MAX_PLACES:
        places.append(place)
        place = data.find(old, place + 1)
    return tuple(places)


def _line_of(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def _ambiguous(given: str, data: bytes, places: tuple[int, ...]) -> str:
    lines = ", ".join(str(_line_of(data, place)) for place in places[:_NAMED_PLACES])
    more = ", …" if len(places) > _NAMED_PLACES else ""
    or_more = " or more" if len(places) == _MAX_PLACES else ""
    return (
        f"old_string occurs {len(places)}{or_more} times in {given} (lines {lines}{more}); nothing was changed. "
        "Add lines around it to make it unique, or set replace_all."
    )


def _write(session: Session, given: str, path: str, before: bytes, after: bytes, piece: Piece) -> Answer:
    try:
        session.sandbox.write_file(path, after, expected_sha256=sha256(before))
    except FileExistsError:
        return failure(f"{given} was changed by something else just now; nothing was written. Read it again.")
    # The model knows the whole file only if it knew it before.
    if session.seen.get(path) == sha256(before):
        session.seen[path] = sha256(after)
    count = before.count(piece.old)
    times = f" ({count} places)" if count > 1 else ""
    return Answer(
        content=f"Edited {given}{times}. Now it reads:\n{_snippet(after, piece)}",
        details={"path": path, "replaced": count, "bytes": len(after)},
    )


def _snippet(after: bytes, piece: Piece) -> str:
    """The first change with the lines around it, numbered."""
    lines = split_lines(decode(after)[0])
    place = piece.places[0]
    first = max(_line_of(after, place) - _CONTEXT_LINES, 1)
    last = _line_of(after, place + len(piece.new)) + _CONTEXT_LINES
    shown = number_lines(lines[first - 1 : min(last, first - 1 + _MAX_SNIPPET_LINES)], first)
    return "\n".join(shown) or "(the file is now empty)"


def _hint(data: bytes, old: str) -> str:
    """What the model most likely got wrong about a text that is not there."""
    lines = split_lines(old)
    if all(_LINE_NUMBER.match(line) for line in lines):
        return " It begins with line numbers as Read shows them; leave them out: they are not part of the file."
    text, notes = decode(data)
    if notes and "\ufffd" in old:
        return f" Note that {notes[0]}, and cannot be matched that way."
    at = _loose_match(split_lines(text), lines)
    if at is not None:
        snippet = "\n".join(number_lines(split_lines(text)[at : at + min(len(lines), _MAX_SNIPPET_LINES)], at + 1))
        return f" It matches from line {at + 1} on if white space is ignored; the file has there:\n{snippet}"
    return " Read the file again and copy the text exactly."


def _loose_match(lines: list[str], wanted: list[str]) -> int | None:
    """Index of the first of the lines that equal the wanted ones up to white space."""
    squeezed = ["".join(line.split()) for line in lines]
    target = ["".join(line.split()) for line in wanted]
    while target and not target[0]:
        target.pop(0)
    while target and not target[-1]:
        target.pop()
    if not target:
        return None
    starts = range(len(squeezed) - len(target) + 1)
    return next((at for at in starts if squeezed[at] == target[0] and squeezed[at : at + len(target)] == target), None)
