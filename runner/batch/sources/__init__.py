"""Where the jobs of a batch come from: lists of issues, events, data sets, tables, folders of tasks.

for found in read_source("issues.json"):      # or "-": standard input; a stream, one row in memory at a time
    ...                                       # Row, BadRow (says what is wrong with it; the rest goes on) or Skipped
found = select(found, Selection(labels=("bug",), first=20))
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, get_args

from runner.batch.sources import folder, table
from runner.batch.sources.base import BadRow, Found, Kind, Row, Skipped
from runner.batch.sources.issues import Mistake
from runner.batch.sources.objects import found_in
from runner.batch.sources.pieces import lines, values
from runner.batch.sources.selection import Selection, numbers, select
from runner.document.words import near, shown
from runner.errors import ConfigError

__all__ = ["KINDS", "BadRow", "Found", "Kind", "Row", "Selection", "Skipped", "numbers", "read_source", "select"]

KINDS: tuple[Kind, ...] = get_args(Kind)
STDIN = "-"
_CHUNK = 64 * 1024
_BOM = b"\xef\xbb\xbf"


def read_source(source: str, *, kind: Kind = "auto") -> Iterator[Found]:
    """The rows of a file or folder, or of standard input (`-`), in their order, read as they are asked for.

    A row that cannot be used is a BadRow, a number or id that comes again too. Raises ConfigError, at the first step,
    for what is no source at all.
    """
    path = Path(source)
    if source == STDIN:
        yield from _unique(_rows(sys.stdin.buffer, "stdin", kind))
    elif path.is_dir() or kind == "tasks" or (kind == "auto" and path.suffix in folder.SUFFIXES):
        _require(path)
        yield from folder.rows(path)
    else:
        _require(path)
        try:
            with path.open("rb") as file:
                yield from _unique(_rows(file, source, kind))
        except OSError as error:
            raise ConfigError(f"{source}: cannot be read: {error.strerror}") from None


def _require(path: Path) -> None:
    if path.exists():
        return
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    meant = near(path.name, siblings, likeness=0.8)
    raise ConfigError(
        f"{shown(str(path))}: there is no such file or folder{f'; did you mean {shown(meant)}?' if meant else ''}"
    )


def _unique(found: Iterable[Found]) -> Iterator[Found]:
    """A number or id that comes again is a mistake: one of the two is not what it says."""
    places: dict[tuple[str, str], str] = {}
    for one in found:
        if isinstance(one, Row):
            repository = str((one.values.get("issue") or {}).get("repository"))
            if before := places.get((repository, one.key)):
                yield BadRow(one.place, f"is {shown(one.key)} again, which is at {before}")
                continue
            places[repository, one.key] = one.place
        yield one


def _rows(file: BinaryIO, name: str, kind: Kind) -> Iterator[Found]:
    head, chunks = _begun(file)
    if not head.strip():
        raise ConfigError(f"{name}: is empty; did the command that should have written it fail?")
    if b"\0" in head.partition(b"\n")[0]:
        raise ConfigError(f"{name}: is no text in UTF-8")
    read = _READERS[_kind_of(head, name) if kind == "auto" else kind]
    yield from read(chunks, name)


def _begun(file: BinaryIO) -> tuple[bytes, Iterator[bytes]]:
    """The beginning of a file, and its chunks from there on, without a byte order mark."""
    chunks = iter(lambda: file.read(_CHUNK), b"")
    head = next(chunks, b"").removeprefix(_BOM)
    return head, chain([head], chunks)


def _kind_of(head: bytes, name: str) -> Kind:
    suffix = Path(name).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    first = head.lstrip().split(b"\n", 1)[0].strip()
    match first[:1]:
        case b"[":
            return "json"
        case b"{":
            # An object that is not closed on its line goes on below; else each line has one.
            return "jsonl" if first.endswith(b"}") or b"\n" not in head else "json"
    if _is_header(first):
        return "csv"
    raise ConfigError(
        f"{name}: is none of JSON, JSON lines, a table with a header, or a task; "
        "give what gh issue list --json number,title,body,… prints, or say what it is with --kind"
    )


def _is_header(line: bytes) -> bool:
    """Whether a line could only be that of a table: prose has commas too."""
    try:
        head = line.decode("utf-8")
        columns = table.columns_of(head, table.separator_of(head))
    except (UnicodeDecodeError, Mistake, csv.Error):
        return False
    return len(columns) > 1 and bool({"number", "title", "id"} & set(columns))


def _json(chunks: Iterable[bytes], name: str) -> Iterator[Found]:
    for number, piece in enumerate(values(chunks), start=1):
        yield found_in(piece, source=name, number=number)


def _json_lines(chunks: Iterable[bytes], name: str) -> Iterator[Found]:
    pieces = (piece for piece in lines(chunks) if piece.mistake or piece.data.strip())
    for number, piece in enumerate(pieces, start=1):
        yield found_in(piece, source=name, number=number)


def _table(chunks: Iterable[bytes], name: str) -> Iterator[Found]:
    return table.rows(lines(chunks), source=name)


_SUFFIXES: dict[str, Kind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
_READERS: dict[str, Callable[[Iterable[bytes], str], Iterator[Found]]] = {
    "json": _json,
    "jsonl": _json_lines,
    "csv": _table,
}
