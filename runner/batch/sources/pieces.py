"""A file in chunks, cut into rows. One row at a time is in memory, and of a row no more than it may have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from runner.batch.sources.base import MAX_ROW_BYTES, TOO_LONG, Piece


def lines(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Every line, with its end; one that is too long comes without data."""
    piece = Growing(1)
    for chunk in chunks:
        at = 0
        while end := chunk.find(b"\n", at) + 1:
            piece.add(chunk[at:end])
            yield piece.whole()
            piece = Growing(piece.line + 1)
            at = end
        piece.add(chunk[at:])
    if piece.size:
        yield piece.whole()


_BETWEEN = re.compile(rb"[^\s,]")
_INSIDE = re.compile(rb'["\[\]{},\n]')
_IN_TEXT = re.compile(rb'["\\]')


def values(chunks: Iterable[bytes]) -> Iterator[Piece]:
    """Every JSON value of a file, those of lists one by one: `[a, b]`, `a b` and `[a][b]` are all a and b.

    Only brackets and quotes are looked at; whether a piece is JSON is for others to say.
    """
    cutter = _Cutter()
    for chunk in chunks:
        yield from cutter.cut(chunk)
    yield from cutter.end()


class _Cutter:
    def __init__(self) -> None:
        self._offset = 0  # of the chunk in the file
        self._line = 1
        self._line_offset = 0
        self._begun_on = 0  # the line of the value before
        self._in_list = False
        self._piece: Growing | None = None
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def cut(self, chunk: bytes) -> Iterator[Piece]:
        """The values that end in this chunk."""
        at = counted = 0
        while at < len(chunk):
            if self._piece is None:
                found = _BETWEEN.search(chunk, at)
                at = found.start() if found else len(chunk)
                counted = self._count_lines(chunk, counted, at)
                if found:
                    at += self._begin(found[0], self._offset + at)
                continue
            end, done = self._go_on(chunk, at)
            self._piece.add(chunk[at:end])
            at = end
            if done:
                yield self._piece.whole()
                self._piece = None
        self._count_lines(chunk, counted, len(chunk))
        self._offset += len(chunk)

    def _count_lines(self, chunk: bytes, start: int, end: int) -> int:
        if found := chunk.count(b"\n", start, end):
            self._line += found
            self._line_offset = self._offset + chunk.rindex(b"\n", start, end) + 1
        return end

    def _begin(self, first: bytes, offset: int) -> int:
        """Begin a value, or step (1) over the bracket of the list around the values."""
        if first == (b"]" if self._in_list else b"["):
            self._in_list = not self._in_list
            return 1
        column = offset - self._line_offset + 1 if self._begun_on == self._line else None
        self._piece, self._begun_on = Growing(self._line, column), self._line
        self._depth, self._in_text, self._escaped = 0, False, False
        return 0

    def _go_on(self, chunk: bytes, at: int) -> tuple[int, bool]:
        """Up to where the value reaches in this chunk from `at` on, and whether it ends there."""
        while at < len(chunk):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = (_IN_TEXT if self._in_text else _INSIDE).search(chunk, at)
            if found is None:
                break
            at = found.end()
            match found[0]:
                case b"\\":
                    self._escaped = True
                case b'"':
                    self._in_text = not self._in_text
                case b"[" | b"{":
                    self._depth += 1
                case b"]" | b"}" if self._depth:
                    self._depth -= 1
                    if not self._depth:
                        return at, True
                case b"," | b"\n" if not self._depth:
                    # A number or a word ends before what is not its own.
                    return found.start(), True
                case b"]" if self._in_list and not self._depth:
                    return found.start(), True
                case _:
                    pass
        return len(chunk), False

    def end(self) -> Iterator[Piece]:
        """What is left when the file is at its end."""
        if self._piece and (self._depth or self._in_text):
            yield Piece(self._piece.line, b"", "is not closed; is the file cut off?", self._piece.column)
        elif self._piece:
            yield self._piece.whole()
        elif self._in_list:
            yield Piece(self._line, b"", "the list is not closed; is the file cut off?")


class Growing:
    """A row that is being read: no more of it is kept than it may have."""

    def __init__(self, line: int, column: int | None = None) -> None:
        self.line = line
        self.column = column
        self.size = 0
        self._parts: list[bytes] = []
        self._mistake = ""

    def add(self, part: bytes, mistake: str = "") -> None:
        self.size += len(part)
        self._mistake = self._mistake or mistake or (TOO_LONG if self.size > MAX_ROW_BYTES else "")
        if self._mistake:
            self._parts.clear()
        else:
            self._parts.append(part)

    def whole(self) -> Piece:
        return Piece(self.line, b"".join(self._parts), self._mistake, self.column)
