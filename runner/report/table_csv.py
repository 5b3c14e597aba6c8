"""One row per job as CSV (RFC 4180), for spreadsheets: no cell is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from runner.report.jobs import Row, false_claims, word_of
from runner.report.visible import one_line
from runner.result import JobResult

COLUMNS = (
    "job",
    "title",
    "source",
    "task",
    "outcome",
    "exit_code",
    "reason",
    "cause",
    "attempt",
    "cost_usd",
    "cost_doubtful_usd",
    "cost_complete",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "turns",
    "tool_calls",
    "denials",
    "seconds",
    "files",
    "insertions",
    "deletions",
    "checks",
    "checks_passed",
    "claims_not_held",
    "branch",
    "commit",
    "model",
    "repo",
    "base",
    "started_at",
    "ended_at",
)
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the beginning of a formula, in its full-width forms too."""


def csv_table(rows: Sequence[Row]) -> bytes:
    """The file: UTF-8, CRLF, a header, numbers as digits; empty cells are unknown."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = _cells(row)
        writer.writerow([_cell(cells.get(name)) for name in COLUMNS])
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str():
            text = one_line(value)
            return f"'{text}" if text.startswith(FORMULA) else text
        case float():
            return f"{value:.3f}"
        case _:
            return value


def _cells(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "job": row.job,
        "title": row.title,
        "source": row.source,
        "task": row.task,
        "outcome": word_of(row),
        "reason": row.reason,
        "cost_usd": None if row.cost_usd is None else format(row.cost_usd, "f"),
        "cost_doubtful_usd": format(row.cost_doubtful_usd, "f"),
        "cost_complete": row.cost_complete,
        **row.usage.model_dump(),
        "turns": row.turns,
        "started_at": row.started_at,
    }
    return cells | _cells_of_ended(row) if isinstance(row, JobResult) else cells


def _cells_of_ended(result: JobResult) -> dict[str, Any]:
    return {
        "exit_code": result.exit_code,
        "cause": result.cause,
        "attempt": result.attempt,
        "tool_calls": sum(result.tool_calls.values()),
        "denials": len(result.denials),
        "seconds": result.seconds,
        "files": result.diff.files,
        "insertions": result.diff.insertions,
        "deletions": result.diff.deletions,
        "checks": len(result.judged),
        "checks_passed": sum(result.judged),
        "claims_not_held": false_claims(result),
        "branch": result.branch,
        "commit": result.commit,
        "model": result.model,
        "repo": result.repo,
        "base": result.base,
        "ended_at": result.ended_at,
    }
