"""`claw-runner approvals`: answer what headless jobs ask."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from runner.approvals.queue import Found, answer, find, questions
from runner.approvals.words import arguments, summary, whole
from runner.cli.jobs import RUNS
from runner.errors import ConfigError
from runner.report.units import duration
from runner.report.visible import one_line

WIDTH = 80
GRACE_SECONDS = 1.0
"""A job tells of its question a moment before the question is in the queue; scripts are quicker than that."""

Id = Annotated[
    str, typer.Argument(metavar="ID", help="JOB/N; the beginning of JOB will do, alone if it asks one thing")
]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="where the jobs' folders are")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="kept with the answer; the agent hears of a no")]
AsJson = Annotated[bool, typer.Option("--json", help="print machine-readable output only")]


def list_(runs: Runs = RUNS, as_json: AsJson = False) -> int:
    """List what jobs wait for, and what they asked before they were killed. Exit code 0, also when that is nothing."""
    open_ = [found for found in questions(runs) if found.state != "answered"]
    if as_json:
        print(json.dumps([_facts(found) for found in open_], indent=2))
        return 0
    for found in open_:
        print(f"{one_line(found.question.id)}  {_age(found)}")
        print(_cut(f"    {summary(found.question.call)}"))
    if not open_:
        print("nothing is asked")
    return 0


def show(id: Id, runs: Runs = RUNS, as_json: AsJson = False) -> int:
    """Show one question whole: the call, why it is asked, what it was given, and its answer if there is one."""
    found = _find(runs, id, waiting=False)
    if as_json:
        print(json.dumps(_facts(found), indent=2))
    else:
        print("\n".join(_shown(found)))
    return 0


def allow(
    id: Id,
    for_job: Annotated[bool, typer.Option("--for-job", help="and again, until the job ends")] = False,
    reason: Reason = "",
    runs: Runs = RUNS,
) -> int:
    """Let one call be run, once. Exit code 2: there is no such question, or it is not open any more."""
    return _answer(runs, id, allowed=True, for_job=for_job, reason=reason)


def deny(id: Id, reason: Reason = "", runs: Runs = RUNS) -> int:
    """Deny one call; the agent hears the reason and goes on. Exit code 2: no such question, or not open any more."""
    return _answer(runs, id, allowed=False, for_job=False, reason=reason)


def _answer(runs: Path, id: str, *, allowed: bool, for_job: bool, reason: str) -> int:
    found = _find(runs, id, waiting=True)
    answer(found, allowed=allowed, scope="job" if for_job else "once", reason=reason)
    how = ("allowed for this job" if for_job else "allowed once") if allowed else "denied"
    print(f"{how}: {summary(found.question.call)}")
    if allowed and for_job and (rule := found.question.suggestion):
        print(f"with all that this rule allows, which the policy may have for good: {one_line(rule)}")
    return 0


def _find(runs: Path, id: str, *, waiting: bool) -> Found:
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        try:
            return find(runs, id, waiting=waiting)
        except ConfigError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _facts(found: Found) -> dict[str, object]:
    answered = found.reply.model_dump(mode="json", exclude={"version", "id", "token"}) if found.reply else None
    return found.question.model_dump(mode="json", exclude={"token"}) | {"state": found.state, "answer": answered}


def _shown(found: Found) -> Iterator[str]:
    question = found.question
    yield f"{one_line(question.id)}  {_age(found)}"
    yield ""
    yield from whole(question.call)
    yield ""
    yield f"why      {one_line(question.reason)}"
    if question.where:
        yield f"rule     {one_line(f'{question.rule} ({question.where})')}"
    if question.suggestion:
        yield f"always   {one_line(question.suggestion)}"
    yield f"asked    {question.asked_at:%Y-%m-%d %H:%M:%S} UTC, until {question.expires_at:%H:%M:%S} UTC"
    if found.reply:
        yield f"answer   {_answered(found)}"
    if question.input:
        yield "given"
        yield from arguments(question.input)


def _answered(found: Found) -> str:
    reply = found.reply
    assert reply is not None
    match reply.how:
        case "expired":
            return "nobody answered in time: denied"
        case "stopped":
            return "the job ended before the answer"
        case "answered":
            how = ("allowed once" if reply.scope == "once" else "allowed for the job") if reply.allowed else "denied"
            return one_line(f"{how} by {reply.by}{f': {reply.reason}' if reply.reason else ''}")


def _age(found: Found) -> str:
    """When it was asked and how long it waits yet, or why it does not."""
    now = datetime.now(UTC)
    age = duration(max(0.0, (now - found.question.asked_at).total_seconds()))
    match found.state:
        case "waiting":
            left = duration(max(0.0, (found.question.expires_at - now).total_seconds()))
            return f"asked {age} ago, {left} left"
        case "gone":
            return f"asked {age} ago; gone: its runner has ended"
        case "expired":
            return f"asked {age} ago; expired"
        case "answered":
            return f"asked {age} ago; answered"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
