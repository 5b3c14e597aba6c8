"""`claw-runner show JOB`: how a job ended."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from runner.cli.jobs import find_job
from runner.errors import ConfigError
from runner.report import RESULT, TRANSCRIPT, print_summary
from runner.report.units import plural, usd
from runner.report.visible import one_line
from runner.result import JobResult, billed
from runner.transcript import Reader, first_problem


def show(
    job: Annotated[str, typer.Argument(metavar="JOB", help="folder of a job, its id, or the beginning of its id")],
    as_json: Annotated[bool, typer.Option("--json", help="print result.json and nothing else")] = False,
) -> int:
    """Print how a job ended, or how far it came.

    Exit code 0, whatever the job's own was; 2 when there is no such job.
    """
    folder = find_job(job)
    if not (folder / RESULT).is_file():
        _show_unfinished(folder, as_json)
        return 0
    result = read_result(folder)
    if as_json:
        # The bytes as they are: a terminal's encoding may lack what JSON has.
        sys.stdout.flush()
        sys.stdout.buffer.write((folder / RESULT).read_bytes())
    else:
        print_summary(result, folder)
    return 0


def read_result(folder: Path) -> JobResult:
    """The result of a job folder. Raises ConfigError for a file that is not one."""
    path = folder / RESULT
    try:
        return JobResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}; was it written by another version?") from None


def _show_unfinished(folder: Path, as_json: bool) -> None:
    facts = _so_far(folder)
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return
    torn = " (its last line was cut short)" if facts["torn_bytes"] else ""
    print(f"UNFINISHED  {one_line(folder.name)}: still running, or ended by force")
    print(
        f"so far      {plural(facts['turns'], 'turn')}, {plural(facts['events'], 'event')}{torn}, last: {facts['last']}"
    )
    print(f"cost        {usd(None if facts['cost_usd'] is None else Decimal(facts['cost_usd']))}")


def _so_far(folder: Path) -> dict[str, Any]:
    """What the transcript of a job without a result says."""
    reader = Reader(folder / TRANSCRIPT)
    events = tuple(reader)
    bill = billed(events)
    return {
        "job": folder.name,
        "outcome": None,
        "events": len(events),
        "last": events[-1].type if events else None,
        "last_at": events[-1].time if events else None,
        "turns": bill.replies,
        "usage": bill.usage.model_dump(),
        "cost_usd": None if bill.cost_usd is None else format(bill.cost_usd, "f"),
        "cost_complete": bill.complete,
        "torn_bytes": reader.torn_bytes,
    }
