"""`claw-runner report BATCH|JOB`: write the reports again, from the transcripts alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from runner.cli.jobs import find_either, is_job
from runner.cli.rows import Row, rows_text
from runner.errors import ConfigError
from runner.report import BatchReport, print_summary, rewrite_artifacts, write_batch_report
from runner.report.jobs import is_batch_of_transcripts
from runner.report.units import duration, plural, short, usd
from runner.report.visible import one_line
from runner.result import Incomplete

MOST_DAMAGED = 10


def report(
    name: Annotated[
        str, typer.Argument(metavar="BATCH|JOB", help="folder of a batch or a job, its id, or the beginning of its id")
    ],
    all_jobs: Annotated[
        bool,
        typer.Option("--all", help="write the files of all jobs of a batch again, not only where some are missing"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print batch.json or result.json, and nothing else")] = False,
) -> int:
    """Write report.html and what else is computed of a job, or of all jobs of a batch, from the transcripts alone.

    Exit code 0, whatever the outcomes; 2 when there is no such batch or job, or its transcript has no end.
    """
    folder = _found(name)
    try:
        if is_job(folder):
            _report_job(folder, as_json=as_json)
        else:
            _report_batch(folder, all_jobs=all_jobs, as_json=as_json)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    return 0


def _found(name: str) -> Path:
    """A folder of transcripts is a batch here, though it lack the state that batches are resumed from."""
    path = Path(name)
    return path if path.is_dir() and (is_job(path) or is_batch_of_transcripts(path)) else find_either(name)


def _report_job(folder: Path, *, as_json: bool) -> None:
    result = rewrite_artifacts(folder)
    if as_json:
        print(json.dumps(result.model_dump(mode="json"), indent=2))
    else:
        print_summary(result, folder)


def _report_batch(folder: Path, *, all_jobs: bool, as_json: bool) -> None:
    written = write_batch_report(folder, rebuild="all" if all_jobs else "missing")
    if as_json:
        print(written.totals_file.read_text(), end="")
    else:
        print(f"{one_line(written.folder.resolve().name)}: {plural(written.totals.jobs, 'job')}")
        print(rows_text(_rows(written)))


def _rows(written: BatchReport) -> Iterator[Row]:
    of_all = written.totals
    for word, jobs in of_all.outcomes.items():
        yield word.replace("_", " "), f"{jobs:,}"
    doubtful = f", and at most {usd(of_all.cost_doubtful_usd)} more" if of_all.cost_doubtful_usd else ""
    unknown = "" if of_all.cost_complete or doubtful else ", and what is not known"
    yield "cost", f"{usd(of_all.cost_usd)}{doubtful}{unknown}"
    yield "tokens", short(of_all.usage.total_tokens)
    yield "time", f"{duration(of_all.seconds)} of jobs, one after the other"
    if of_all.false_claims:
        yield "claims", f"{plural(of_all.false_claims, 'job')} ended with a claim that evidence contradicts"
    damaged = [row for row in written.rows if isinstance(row, Incomplete) and row.problem == "damaged"]
    for row in damaged[:MOST_DAMAGED]:
        yield "damaged", f"{row.job}: {row.reason}"
    for number, path in enumerate(written.files):
        yield "" if number else "written", str(path)
