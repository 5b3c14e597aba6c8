"""What happens in a batch, an event a line: words for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from runner.batch.base import BatchEvent, Ended
from runner.batch.picture import clock
from runner.ledger import in_usd
from runner.report.progress import progress_line
from runner.report.units import duration, usd
from runner.report.visible import one_line, visible
from runner.transcript import AnyEvent

WIDTH = 80
_LEAD, _JOB = 14, 16
"""Columns of the first word and of a job's id, where there is room; both may be longer."""


def line_of(event: BatchEvent, *, width: int = WIDTH, runs: Path | None = None) -> str | None:
    """The line that tells of the event, nothing in it acting on a terminal; None when it is not worth one.

    A question to a person has a second line, with the command that answers it, however long that is. `runs`: the folder
    of the batches, when it is not the one that the command would look in.
    """
    if event.event is not None:
        return _asked(event, event.event, width, runs)
    match event:
        case BatchEvent(kind="job_started"):
            again = f"attempt {event.attempt}: " if event.attempt > 1 else ""
            return _line("started", event, again + event.text, width)
        case BatchEvent(kind="job_ended", ended=Ended() as ended):
            said = ended.branch if ended.branch and ended.outcome in ("solved", "changed") else event.text
            return _line(ended.outcome, event, f"{said} ({_amounts(ended)})", width)
        case BatchEvent(kind="job_retried"):
            return _line("retry", event, f"in {duration(event.wait_seconds)}: {event.text}", width)
        case BatchEvent(kind="slowed"):
            return _line("pace", event, event.text, width)
        case BatchEvent(kind="job_left"):
            return _line("left", event, event.text, width)
        case BatchEvent(kind="note"):
            return _noted(event, width)
        case _:
            return None


def _asked(event: BatchEvent, asked: AnyEvent, width: int, runs: Path | None) -> str | None:
    first, _, command = (progress_line(asked, runs=runs) or "").partition("\n")
    line = _line("asks", event, " ".join(first.removeprefix("asks").split()), width)
    return f"{line}\n{command}" if command else None


def _noted(event: BatchEvent, width: int) -> str:
    """A bug's whole traceback, which somebody will want to report; of anything else there is but one line."""
    lines = visible(event.text).strip().splitlines() or [""]
    return "\n".join([_line("note", event, lines[-1], width), *(f"  {one_line(line)}" for line in lines[:-1])])


def _amounts(ended: Ended) -> str:
    cost = usd(None if ended.cost_micro_usd is None else in_usd(ended.cost_micro_usd))
    return f"{clock(ended.seconds)}, {cost}"


def _line(lead: str, event: BatchEvent, text: str, width: int) -> str:
    columns = (_LEAD, _JOB) if width >= WIDTH else (0, 0)
    job = f"{one_line(event.job):<{columns[1]}}  " if event.job else ""
    line = f"{lead:<{columns[0]}}  {job}{one_line(text)}".rstrip()
    return line if len(line) <= width else line[: width - 1] + "…"


_OF_THE_FILE = {"seq", "time", "prev"}
"""What an event gets in its transcript."""


def json_line(event: BatchEvent, **more: Any) -> str:
    """The event as JSON on one line, with `more`. What it lacks is left out; nothing in it acts on a terminal."""
    found = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    facts = {name: value for name, value in found.items() if value not in ("", 0, None)}
    if event.event is not None:
        facts["event"] = event.event.model_dump(mode="json", exclude=_OF_THE_FILE)
    if event.ended is not None:
        facts["ended"] = dataclasses.asdict(event.ended)
    text = json.dumps(facts | more, separators=(",", ":"))
    # What GitHub's runner takes for a command wherever it stands in a line, and the one ASCII character that acts.
    return text.replace("##[", r"\u0023#[").replace("\x7f", r"\u007f")
