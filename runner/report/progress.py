"""A job as it happens: one line for each event that a person wants to see, at most 80 columns."""

from __future__ import annotations

import shlex
from pathlib import Path

from runner.messages import ToolUse
from runner.report.units import duration, plural, usd
from runner.report.visible import exact, one_line
from runner.result import subject_of
from runner.transcript import (
    AgentEnded,
    AnyEvent,
    ApprovalAnswered,
    ApprovalAsked,
    BranchTaken,
    CheckRan,
    EgressTried,
    GateRan,
    ModelFailed,
    ModelReplied,
    ModelRetried,
    SandboxOpened,
    SetupRan,
    ToolDecided,
    ToolRan,
)

WIDTH = 80


def progress_line(event: AnyEvent, *, runs: Path | None = None) -> str | None:
    """The line that tells of the event, nothing in it acting on a terminal; None when it is not worth one.

    A question to a person has two lines: the second is the command that answers it, however long that is. `runs`: the
    folder of the jobs, when it is not the one that the command would look in.
    """
    told = _told(event)
    if told is None:
        return None
    lead, text = told
    line = f"{lead}{one_line(text)}".rstrip()
    line = line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
    if isinstance(event, ApprovalAsked):
        where = f" --runs {shlex.quote(str(runs))}" if runs else ""
        line += f"\n         claw-runner approvals allow {one_line(event.id + where)}"
    return line


def _told(event: AnyEvent) -> tuple[str, str] | None:
    """Our own words, and those of others, which may hold anything."""
    match event:
        case SandboxOpened(purpose=purpose, report=report):
            return f"sandbox  for the {purpose}, on {report['engine']}, ", str(report["image"])
        case SetupRan(command=command, exit_code=code):
            return "setup    ", command if code == 0 else f"failed (exit {code}): {command}"
        case ModelReplied(turn=turn, reply=reply, cost_usd=cost, seconds=seconds):
            return f"turn {turn:<3} {duration(seconds):>7}  {usd(cost):>7}  ", reply.text
        case ModelRetried(retried=retried):
            return f"         retry {retried.attempt} in {duration(retried.wait_seconds)}: ", retried.cause
        case ModelFailed(error=error):
            return "         failed: ", error
        case ToolDecided(allowed=False, call=call, rule=rule, approval=approval):
            # Who denied what a person was asked about was said the line before.
            return "  denied ", f"{_named(call)}{f' by {rule}' if rule and not approval else ''}"
        case ToolDecided(call=call):
            return "         ", _named(call)
        case ApprovalAsked(call=call, expires_seconds=seconds):
            return f"asks     for {duration(seconds)}: ", exact(call.replace("\n", " ⏎ "))
        case ApprovalAnswered(allowed=allowed, scope=scope, by=by, reason=reason):
            how = ("allowed once" if scope == "once" else "allowed for this job") if allowed else "denied"
            return f"answer   {how}, ", f"{by}{f': {reason}' if reason else ''}"
        case EgressTried(allowed=False, host=host, port=port, reason=reason):
            return "refused  ", f"{host}:{port}: {reason}"
        case ToolRan(is_error=True, ran=True, content=content):
            return "         → ", content
        case AgentEnded(reason=reason) if reason != "done":
            return "agent    ended: ", reason
        case BranchTaken(files=files, insertions=insertions, deletions=deletions):
            return f"work     {plural(files, 'file')}, +{insertions} -{deletions}", ""
        case GateRan(violations=[first, *_] as violations):
            return f"gate     {plural(len(violations), 'violation')}: ", f"{exact(first.path)} {first.reason}"
        case CheckRan(command=command, exit_code=code, timed_out=timed_out, seconds=seconds):
            how = "timed out" if timed_out else "passed" if code == 0 else f"failed (exit {code})"
            return f"check    {how} in {duration(seconds)}: ", command
        case _:
            return None


def _named(call: ToolUse) -> str:
    return exact(f"{call.name}({subject_of(call)})")
