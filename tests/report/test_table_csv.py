"""One row per job as CSV, which a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report.jobs import Row
from runner.report.table_csv import COLUMNS, FORMULA, csv_table
from runner.result import Incomplete, JobResult, compute_result
from tests.report.batches import job_events
from tests.report.sample import sample_events, sample_result


@pytest.fixture(scope="module")
def result() -> JobResult:
    return sample_result(sample_events(turns=3))


def _read(*rows: Row) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_table(rows).decode(), newline="")))


def test_a_row_has_what_the_result_has(result: JobResult) -> None:
    (row,) = _read(result)
    assert tuple(row) == COLUMNS
    assert (row["job"], row["outcome"], row["exit_code"]) == (result.job, "solved", "0")
    assert row["cost_usd"] == format(result.cost_usd or 0, "f")
    assert (row["checks"], row["checks_passed"], row["insertions"], row["deletions"]) == ("2", "2", "18", "6")
    assert (row["cost_complete"], row["seconds"], row["attempt"]) == ("true", f"{result.seconds:.3f}", "1")
    assert row["branch"] == result.branch


def test_what_is_unknown_is_empty(result: JobResult) -> None:
    (row,) = _read(result.model_copy(update={"cost_usd": None, "branch": None}))
    assert (row["cost_usd"], row["branch"], row["cause"]) == ("", "", "")


def test_a_job_without_a_result_has_a_row(result: JobResult) -> None:
    rows = _read(result, Incomplete(job="x", problem="unfinished", reason="still running", turns=3))
    assert (rows[1]["job"], rows[1]["outcome"], rows[1]["turns"], rows[1]["exit_code"]) == ("x", "unfinished", "3", "")


@pytest.mark.parametrize(
    "formula",
    ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", " =1", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x"],
)
def test_no_cell_is_a_formula(result: JobResult, formula: str) -> None:
    (row,) = _read(result.model_copy(update={"title": formula, "reason": formula, "branch": formula}))
    assert all(row[name].startswith("'") for name in ("title", "reason", "branch"))


@given(text=st.text(st.characters(), max_size=40))
def test_any_text_stays_in_its_cell(text: str) -> None:
    result = compute_result(job_events(1, random.Random(1), turns=1), transcript_hash="")
    data = csv_table([result.model_copy(update={"title": text, "reason": text}), result])
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert [len(row) for row in rows] == [len(COLUMNS)] * 3
    assert not any(cell.startswith(FORMULA) for row in rows for cell in row)
    assert data.count(b"\r\n") == 3
    assert data.count(b"\n") == 3
