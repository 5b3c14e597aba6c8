"""Where the time of a job went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from runner.transcript import (
    AgentPrompted,
    AnyEvent,
    ApprovalAnswered,
    Contained,
    EgressTried,
    Event,
    ModelReplied,
    SandboxOpened,
    SetupRan,
    SnapshotUsed,
    ToolRan,
    of_kind,
)

Phase = Literal["sandbox", "setup", "agent", "branch", "checks", "end"]


class Span(NamedTuple):
    """Time between two events, in seconds from the start of the job, and what it went into."""

    phase: Phase
    start: float
    end: float


def spans(events: Sequence[AnyEvent]) -> Iterator[Span]:
    """The whole time of the job, cut at its events; each piece belongs to the event that it ends with.

    sandbox: image and container, until its first answer. setup: repository in, setup commands. agent: model and tools.
    branch: the work coming out. checks: the second container and what runs in it. end: the rest.
    """
    purpose, last = "agent", 0.0
    phase: Phase = "end"
    for event in events:
        if isinstance(event, SandboxOpened):
            purpose = event.purpose
        phase = _phase(event, purpose, phase)
        now = max(last, seconds_between(events[0], event))
        yield Span(phase, last, now)
        last = now


_PHASES: dict[str, Phase] = {
    "sandbox_opened": "sandbox",
    "setup_ran": "setup",
    "snapshot_used": "setup",
    "contained": "setup",
    "branch_taken": "branch",
    "gate_ran": "branch",
    "branch_delivered": "branch",
    "check_ran": "checks",
    "job_started": "end",
    "resumed": "end",
    "job_ended": "end",
}


def _phase(event: AnyEvent, purpose: str, before: Phase) -> Phase:
    if purpose == "checks" and isinstance(event, SandboxOpened | SetupRan | SnapshotUsed | EgressTried | Contained):
        return "checks"
    if isinstance(event, EgressTried):
        return event.phase
    if isinstance(event, AgentPrompted):
        # The first prompt ends the preparation; later ones are reminders, and feedback about checks.
        return before if before in ("agent", "checks") else "setup"
    return _PHASES.get(event.type, "agent")


def seconds_between(start: Event, end: Event) -> float:
    elapsed = datetime.fromisoformat(end.time) - datetime.fromisoformat(start.time)
    return round(max(0.0, elapsed.total_seconds()), 6)


def timings(events: Sequence[AnyEvent]) -> dict[str, float]:
    """Seconds per phase; of these those of the model and the tools, and of waiting for a person where one was asked."""
    seconds: dict[str, float] = dict.fromkeys(get_args(Phase), 0.0)
    for span in spans(events):
        seconds[span.phase] += span.end - span.start
    seconds["model"] = sum(event.seconds for event in of_kind(events, ModelReplied))
    seconds["tools"] = sum(event.seconds for event in of_kind(events, ToolRan))
    if answered := of_kind(events, ApprovalAnswered):
        seconds["approvals"] = sum(event.seconds for event in answered)
    return {phase: round(value, 3) for phase, value in seconds.items()}
