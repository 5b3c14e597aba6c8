"""A job as it happens: one line for each event that a person wants to see, at most 80 columns."""

from __future__ import annotations

from runner.report.units import duration, plural, usd
from runner.report.visible import one_line
from runner.result import subject_of
from runner.transcript import (
    AgentEnded,
    AnyEvent,
    BranchTaken,
    CheckRan,
    ModelFailed,
    ModelReplied,
    ModelRetried,
    SandboxOpened,
    SetupRan,
    ToolDecided,
    ToolRan,
)

WIDTH = 80


def progress_line(event: AnyEvent) -> str | None:
    """The line that tells of the event, nothing in it acting on a terminal; None when it is not worth one."""
    told = _told(event)
    if told is None:
        return None
    lead, text = told
    line = f"{lead}{one_line(text)}".rstrip()
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


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
        case ToolDecided(allowed=False, call=call, rule=rule):
            return "  denied ", f"{call.name}({subject_of(call)}){f' by {rule}' if rule else ''}"
        case ToolDecided(call=call):
            return "         ", f"{call.name}({subject_of(call)})"
        case ToolRan(is_error=True, ran=True, content=content):
            return "         → ", content
        case AgentEnded(reason=reason) if reason != "done":
            return "agent    ended: ", reason
        case BranchTaken(files=files, insertions=insertions, deletions=deletions):
            return f"work     {plural(files, 'file')}, +{insertions} -{deletions}", ""
        case CheckRan(command=command, exit_code=code, timed_out=timed_out, seconds=seconds):
            how = "timed out" if timed_out else "passed" if code == 0 else f"failed (exit {code})"
            return f"check    {how} in {duration(seconds)}: ", command
        case _:
            return None
