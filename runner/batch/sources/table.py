"""CSV, as RFC 4180 has it: a header, then a row for each record; separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from runner.batch.sources.base import BadRow, Found, Piece
from runner.batch.sources.issues import Mistake
from runner.batch.sources.objects import row_of
from runner.batch.sources.pieces import Growing
from runner.document.words import shown
from runner.errors import ConfigError

SEPARATORS = ",;\t"
_COLUMN = re.compile(r"[^\W\d]\w*")


def rows(lines: Iterable[Piece], *, source: str) -> Iterator[Found]:
    """The rows of a table. Raises ConfigError when the first line is no header."""
    lines = iter(lines)
    first = next(lines)
    place = first.place(source)
    try:
        head = _text(first).rstrip("\r\n")
        separator = separator_of(head)
        columns = columns_of(head, separator)
    except Mistake as mistake:
        raise ConfigError(f"{place}: the first line is no header of a table: {mistake}") from None
    for number, piece in enumerate(_records(lines, separator), start=1):
        place = piece.place(source)
        try:
            yield row_of(_values(piece, columns, separator), place=place, number=number, table=True)
        except Mistake as mistake:
            yield BadRow(place, str(mistake))


def separator_of(head: str) -> str:
    return max(SEPARATORS, key=head.count)


def columns_of(head: str, separator: str) -> list[str]:
    """The names of the columns, such as templates can say: `Due Date` is `due_date`. Raises Mistake."""
    columns = ["_".join(cell.lower().split()) for cell in _cells(head, separator)]
    for number, column in enumerate(columns, start=1):
        if not _COLUMN.fullmatch(column):
            raise Mistake(f"column {number} is called {shown(column)}; a name is letters, digits and '_'")
        if column in columns[: number - 1]:
            raise Mistake(f"there are two columns {shown(column)}")
    return columns


def _values(piece: Piece, columns: list[str], separator: str) -> dict[str, object]:
    cells = _cells(_text(piece).rstrip("\r\n"), separator)
    if len(cells) != len(columns):
        raise Mistake(
            f"has {len(cells)} cell{'s'[: len(cells) - 1]}, the header {len(columns)}; "
            f"put a text with {shown(separator)} in it into double quotes"
        )
    values: dict[str, object] = dict(zip(columns, cells, strict=True))
    number = str(values.get("number", ""))
    return values | {"number": int(number)} if re.fullmatch(r"[0-9]{1,12}", number) else values


def _text(piece: Piece) -> str:
    if piece.mistake:
        raise Mistake(piece.mistake)
    if b"\0" in piece.data:
        raise Mistake("has a NUL byte in it; save the file as UTF-8")
    try:
        return piece.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Mistake(f"byte 0x{piece.data[error.start]:02x} is not UTF-8; save the file as UTF-8") from None


def _cells(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=separator, strict=True), [])
    except csv.Error as error:
        raise Mistake(f"is no record of a table: {error}") from None


# --- Records

_QUOTED_END = re.compile(rb'[^"]*(?:""[^"]*)*"(?!")')


def _records(lines: Iterable[Piece], separator: str) -> Iterator[Piece]:
    """Lines, put together where a quoted cell goes on in the next; empty ones left out."""
    opening = re.compile(rb"(?:^|" + re.escape(separator.encode()) + rb')"')
    record: Growing | None = None
    quoted = False
    for line in lines:
        if record is None:
            if not line.mistake and not line.data.rstrip(b"\r\n"):
                continue
            record = Growing(line.line)
        record.add(line.data, line.mistake)
        quoted = _quoted_after(line.data, opening, quoted=quoted)
        if not quoted:
            yield record.whole()
            record = None
    if record:
        yield Piece(record.line, b"", "has a double quote that is not closed; is the file cut off?")


def _quoted_after(line: bytes, opening: re.Pattern[bytes], *, quoted: bool) -> bool:
    """Whether the end of a line is inside a quoted cell, when its beginning is or is not."""
    at = 0
    while True:
        if quoted:
            if (end := _QUOTED_END.match(line, at)) is None:
                return True
            at, quoted = end.end(), False
        if (start := opening.search(line, at)) is None:
            return False
        at, quoted = start.end(), True
