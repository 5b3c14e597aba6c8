"""The values of a batch as rows of its state file, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import asdict, fields
from typing import Any

from runner.batch.base import BatchSpec, Ended, JobRow, Limits, Planned, State
from runner.errors import Outcome
from runner.masking import valid_text

_SAME = ("number", "state", "attempt", "fence", "owner", "lease_until", "not_before", "tries")
"""Columns of `jobs` that a JobRow has as they are."""
_SHOWN = ("id", "key", "title", "source")
"""Columns of `jobs` that are part of its plan."""


def add_spec(db: sqlite3.Connection, spec: BatchSpec) -> None:
    db.execute("INSERT INTO batch (spec) VALUES (?)", (json.dumps(asdict(spec)),))


def change_spec(db: sqlite3.Connection, spec: BatchSpec) -> None:
    db.execute("UPDATE batch SET spec = ?", (json.dumps(asdict(spec)),))


def spec(db: sqlite3.Connection) -> BatchSpec:
    """Raises ValueError or TypeError when it is not what was written."""
    (text,) = db.execute("SELECT spec FROM batch").fetchone()
    read = json.loads(text)
    return BatchSpec(**{**read, "limits": Limits(**read["limits"])})


def add_job(db: sqlite3.Connection, number: int, planned: Planned) -> None:
    # What is shown in lists is text that any reader of the file can show; the plan is kept to the letter.
    shown = (planned.id, planned.key, valid_text(planned.title), valid_text(planned.source))
    db.execute("INSERT INTO jobs (number, id, key, title, source) VALUES (?, ?, ?, ?, ?)", (number, *shown))
    # Not asdict, which would copy all that is in it first.
    plan = {field.name: getattr(planned, field.name) for field in fields(Planned)}
    db.execute("INSERT INTO plans VALUES (?, ?)", (number, json.dumps(plan)))


def job(db: sqlite3.Connection, number: int) -> JobRow:
    [found] = jobs(db, after=number - 1, most=1)
    return found


def jobs(
    db: sqlite3.Connection,
    *,
    after: int,
    most: int,
    states: Collection[State] | None = None,
    outcomes: Collection[Outcome] | None = None,
    whole: bool = True,
) -> list[JobRow]:
    """At most so many jobs with a greater number, in order; see `Store.jobs`."""
    where, values = ["number > ?"], [after, *(states or ()), *(outcomes or ()), most]
    if states is not None:
        where.append(f"state IN ({_marks(states)})")
    if outcomes is not None:
        where.append(f"state = 'ended' AND outcome IN ({_marks(outcomes)})")
    tables = "jobs JOIN plans USING (number)" if whole else "jobs"
    columns = ", ".join((*_SAME, *_SHOWN, "fresh", "ended", "planned" if whole else "NULL"))
    query = f"SELECT {columns} FROM {tables} WHERE {' AND '.join(where)} ORDER BY number LIMIT ?"
    return [_job(row) for row in db.execute(query, values).fetchall()]


def ended_text(ended: Ended) -> str:
    return json.dumps(asdict(ended))


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def _job(row: tuple[Any, ...]) -> JobRow:
    same, shown, (fresh, ended, planned) = row[: len(_SAME)], row[len(_SAME) : -3], row[-3:]
    return JobRow(
        **dict(zip(_SAME, same, strict=True)),
        planned=_listed(*shown) if planned is None else _planned(planned),
        fresh=bool(fresh),
        ended=None if ended is None else Ended(**json.loads(ended)),
    )


def _planned(text: str) -> Planned:
    read: dict[str, Any] = json.loads(text)
    return Planned(**{**read, "notes": tuple(read["notes"])})


def _listed(id: str, key: str, title: str, source: str) -> Planned:
    """From the columns that are shown."""
    return Planned(id=id, key=key, title=title, source=source, task_file="", task_sha256="", task={})
