"""What a source gives: rows that become jobs, rows that cannot, and rows that are none of its business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

Kind = Literal["auto", "json", "jsonl", "csv", "tasks"]
"""auto: told by the name and the beginning. json: objects, or lists of them. jsonl: an object on each line. csv: a
table with a header. tasks: a task file, or a folder of them."""

MAX_ROW_BYTES = 4 * 1024 * 1024
"""Of one row in its file. GitHub's longest issue has 64 KiB of text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One thing to do."""

    place: str
    """Where it begins: `issues.json:12`; of a task, its file."""
    number: int
    """The issue's; of other rows, their place in the order of the source, from 1."""
    key: str
    """What its job is called after: the issue's number, the row's own id, else the row's number; "" of a task file."""
    title: str = ""
    """One line; "" when it has none."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """For templates: `issue`, `row`, `comment`, as far as there are. JSON; nothing hidden is left in its texts."""
    task_file: Path | None = None
    """Of a row that is a task of its own."""
    notes: tuple[str, ...] = ()
    """What was taken out of its texts."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot become a job."""

    place: str
    what: str
    """What is wrong, and what to do."""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is nothing to do, and no mistake."""

    place: str
    why: str
    """To follow "left out:"."""


Found = Row | BadRow | Skipped


class Piece(NamedTuple):
    """What one row is made of, as it stands in the file."""

    line: int
    """That it begins on, from 1."""
    data: bytes
    mistake: str = ""
    """Why there is no data; then the row is a bad one."""
    column: int | None = None
    """That it begins at, from 1, in bytes; None when it is the first one on its line."""

    def place(self, source: str) -> str:
        return f"{source}:{self.line}" + (f":{self.column}" if self.column else "")


TOO_LONG = f"is larger than {MAX_ROW_BYTES // 2**20} MiB; leave out what the task does not need"
