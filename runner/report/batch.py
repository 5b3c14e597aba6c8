"""The report of a batch: one page, a table, JUnit, a summary and totals, all from the transcripts of its jobs alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

from markupsafe import Markup

from runner.artifacts import write_all_whole
from runner.report.folder import JUNIT, REPORT, RESULT, write_artifacts
from runner.report.github import step_summary
from runner.report.html import environment, script_hash, template_text
from runner.report.jobs import (
    WORDS,
    Read,
    Row,
    Totals,
    Word,
    false_claims,
    read_batch,
    title_of,
    tone_of,
    totals,
    word_of,
)
from runner.report.junit import junit
from runner.report.plots import Placed, cost_curve, cost_histogram, scatter, time_histogram
from runner.report.table_csv import csv_table
from runner.report.visible import visible_json
from runner.result import Claim, JobResult

RESULTS, SUMMARY, TOTALS = "results.csv", "summary.md", "batch.json"
TOTALS_VERSION = 1
MOST_ROWS = 5_000
FIRST_CLAIMS, MOST_CLAIMS = 5, 200
"""Jobs with claims that do not hold: those shown unfolded, and in all."""
REASON_CHARS = 300
TITLE_CHARS = 200

Rebuild = Literal["none", "missing", "all"]
"""Whether the files of the jobs are written again too: those of jobs that lack some, or of all."""


class BatchReport(NamedTuple):
    folder: Path
    rows: tuple[Row, ...]
    totals: Totals
    files: tuple[Path, ...]
    """That were written into the folder, the page first."""

    @property
    def totals_file(self) -> Path:
        return self.folder / TOTALS


def write_batch_report(folder: Path, *, rebuild: Rebuild = "none") -> BatchReport:
    """Write report.html, results.csv, junit.xml, summary.md and batch.json into a batch's folder, each whole.

    A job whose transcript has no end is listed as unfinished, one whose transcript is damaged with the line that is.
    Nothing else of the folder is read. The same transcripts give the same bytes. Raises OSError.
    """
    placed = []
    for path, read in read_batch(folder):
        _rebuild(path, read, rebuild)
        placed.append(Placed(path.name, read.row))
    rows = tuple(row for _, row in placed)
    of_all = totals(rows)
    name = folder.resolve().name
    files = {
        folder / RESULTS: csv_table(rows),
        folder / JUNIT: junit(name, rows),
        folder / SUMMARY: step_summary(name, rows).encode(),
        folder / REPORT: render_batch(name, placed, of_all).encode(),
        folder / TOTALS: visible_json(_totals_json(name, placed, of_all)).encode() + b"\n",
    }
    write_all_whole(files)
    return BatchReport(folder, rows, of_all, tuple(sorted(files, key=lambda path: path.name != REPORT)))


def _rebuild(folder: Path, read: Read, rebuild: Rebuild) -> None:
    if rebuild == "none" or not isinstance(read.row, JobResult):
        return
    if rebuild == "all" or not all((folder / name).is_file() for name in (RESULT, REPORT, JUNIT)):
        write_artifacts(folder, read.row, read.events, None)


def _totals_json(name: str, placed: Sequence[Placed], of_all: Totals) -> dict[str, Any]:
    """batch.json; its fields are those of docs/artifacts.md."""
    facts = of_all._asdict() | {"usage": of_all.usage.model_dump()}
    facts |= {key: format(facts[key], "f") for key in ("cost_usd", "cost_doubtful_usd")}
    problems = [
        {"job": folder, "problem": row.problem, "reason": row.reason}
        for folder, row in placed
        if not isinstance(row, JobResult)
    ]
    return {"version": TOTALS_VERSION, "batch": name, **facts, "without_result": problems}


# -- the page


class OutcomeShare(NamedTuple):
    word: Word
    jobs: int
    percent: float


class Group(NamedTuple):
    """The jobs of one model."""

    model: str
    jobs: int
    done: int
    cost_usd: float
    median_cost_usd: float
    median_seconds: float
    tokens: int


def render_batch(name: str, placed: Sequence[Placed], of_all: Totals) -> str:
    """The whole page; it works without its script, as a plain table."""
    rows = [row for _, row in placed]
    ended = [row for row in rows if isinstance(row, JobResult)]
    script = template_text("batch.js")
    return (
        environment()
        .get_template("batch.html.j2")
        .render(
            name=name,
            totals=of_all,
            tokens=of_all.usage.total_tokens,
            done=sum(jobs for word, jobs in of_all.outcomes.items() if word in ("solved", "changed")),
            shares=[OutcomeShare(word, jobs, 100 * jobs / len(rows)) for word, jobs in of_all.outcomes.items()],
            median_seconds=median(row.seconds for row in ended) if ended else None,
            costs=cost_histogram(rows),
            times=time_histogram(rows),
            dots=scatter(placed),
            curve=cost_curve(rows),
            groups=_groups(ended),
            claims=list(_claims(placed)),
            placed=placed[:MOST_ROWS],
            first_claims=FIRST_CLAIMS,
            most_claims=MOST_CLAIMS,
            rows_left_out=max(0, len(placed) - MOST_ROWS),
            order={word: number for number, word in enumerate(WORDS)},
            is_ended=lambda row: isinstance(row, JobResult),
            word_of=word_of,
            tone_of=tone_of,
            title_of=lambda row: _cut(title_of(row), TITLE_CHARS),
            reason_of=lambda row: _cut(row.reason, REASON_CHARS),
            false_claims=false_claims,
            script=Markup(script),
            script_hash=script_hash(script),
        )
    )


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def _claims(placed: Sequence[Placed]) -> Iterator[tuple[Placed, list[Claim]]]:
    """Jobs with claims that do not hold, and those."""
    for one in placed:
        wrong = [claim for claim in one.row.claims if claim.holds is False] if isinstance(one.row, JobResult) else []
        if wrong:
            yield one, wrong


def _groups(ended: Sequence[JobResult]) -> list[Group]:
    """By model, when there is more than one."""
    models = Counter(row.model for row in ended)
    return [_group(model, [row for row in ended if row.model == model]) for model in models] if len(models) > 1 else []


def _group(model: str, rows: Sequence[JobResult]) -> Group:
    costs = [float(row.cost_usd) for row in rows if row.cost_usd is not None]
    return Group(
        model=model,
        jobs=len(rows),
        done=sum(row.outcome in ("solved", "changed") for row in rows),
        cost_usd=sum(costs),
        median_cost_usd=median(costs) if costs else 0.0,
        median_seconds=median(row.seconds for row in rows),
        tokens=sum(row.usage.total_tokens for row in rows),
    )
