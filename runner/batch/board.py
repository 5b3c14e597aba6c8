"""What the jobs of this runner are doing at the moment, for whoever looks on: told often, looked at rarely."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from runner.batch.base import BatchEvent
from runner.report.progress import progress_line
from runner.report.visible import one_line
from runner.transcript import AnyEvent, ApprovalAsked, ModelReplied, Resumed

LONGEST_LINE = 200
"""Characters of what a job last did."""
_PACE_SECONDS = 120.0
"""How long the last change of pace is shown."""
_RECENT = 8
"""Events of a job that are kept: most are not worth a line, and the newest that is, is shown."""

Phase = Literal["starting", "playing", "running", "asks", "checking"]
"""playing: replies that are paid for, in place of the model. asks: a person is asked. Finer than the states of a
batch's jobs, and known to their own runner only."""

_PHASES: dict[str, Phase] = {
    "agent_prompted": "running",
    "model_replied": "running",
    "model_retried": "running",
    "tool_decided": "running",
    "approval_asked": "asks",
    "approval_answered": "running",
    "agent_ended": "checking",
    "branch_taken": "checking",
    "check_ran": "checking",
}
"""What a job does from such an event on."""


@dataclass(kw_only=True, slots=True)
class Working:
    """A job under way."""

    job: str
    attempt: int
    title: str
    since: float
    """Seconds since the epoch."""
    phase: Phase = "starting"
    turns: int = 0
    cost_usd: Decimal | None = Decimal(0)
    """None: unknown."""
    recent: deque[AnyEvent] = field(default_factory=lambda: deque(maxlen=_RECENT))
    line: str = ""

    def take(self, event: AnyEvent) -> None:
        self.recent.append(event)
        self.phase = _PHASES.get(event.type, self.phase)
        match event:
            case ModelReplied(turn=turn, cost_usd=cost, reply=reply):
                self.turns = turn
                self.cost_usd = _sum(self.cost_usd, cost)
                if reply.played:
                    self.phase = "playing"
            case Resumed(cost_usd=cost):
                self.cost_usd = _sum(self.cost_usd, cost)

    def forget(self) -> list[AnyEvent]:
        """The recent events, newest first, which are dropped."""
        events = list(reversed(self.recent))
        self.recent.clear()
        return events

    def tell(self, recent: Iterable[AnyEvent]) -> None:
        """Let `line` be the newest of these events that is worth one; visible text, on one line."""
        self.line = next(filter(None, map(_told, recent)), self.line)


def _sum(cost: Decimal | None, more: Decimal | None) -> Decimal | None:
    return None if cost is None or more is None else cost + more


def _told(event: AnyEvent) -> str:
    """Without what stands in columns of its own."""
    if isinstance(event, ModelReplied):
        return one_line(event.reply.text[:LONGEST_LINE])
    line = (progress_line(event) or "").partition("\n")[0]
    return " ".join(line.split())


class Board:
    """Takes what happens from every thread, thousands of times a second: it only stores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working: dict[str, Working] = {}
        self._news: list[BatchEvent] = []
        self._pace: tuple[str, float] = ("", 0.0)
        self.notice = ""
        """What everybody should know until the end: that the batch is being stopped."""

    def see(self, event: BatchEvent) -> None:
        with self._lock:
            match event.kind:
                case "job_event":
                    self._take(event)
                    return
                case "job_started":
                    self._working[event.job] = Working(
                        job=event.job, attempt=event.attempt, title=one_line(event.text), since=event.time
                    )
                case "job_ended" | "job_retried" | "job_left":
                    self._working.pop(event.job, None)
                case "slowed":
                    self._pace = (one_line(event.text), event.time + _PACE_SECONDS)
            self._news.append(event)

    def _take(self, event: BatchEvent) -> None:
        working = self._working.get(event.job)
        if working is None or event.event is None or event.attempt != working.attempt:
            return
        working.take(event.event)
        if isinstance(event.event, ApprovalAsked):
            self._news.append(event)

    def news(self) -> list[BatchEvent]:
        """What happened since it was last asked for, without what only concerns the job's own row."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def working(self) -> int:
        return len(self._working)

    def begun(self) -> int:
        """Jobs whose agent works, or has worked. Takes no lock: a signal handler may ask."""
        return sum(working.phase != "starting" for working in list(self._working.values()))

    def rows(self, most: int) -> list[Working]:
        """The jobs that have been under way for longest, each with the line of what it last did."""
        with self._lock:
            oldest = sorted(self._working.values(), key=lambda working: working.since)[:most]
            recent = [working.forget() for working in oldest]
        # Making lines takes a while, and nobody who has something to tell should wait for it.
        for working, events in zip(oldest, recent, strict=True):
            working.tell(events)
        return oldest

    def pace(self) -> str:
        """What the provider's limits last made of ours; "" when that is long ago."""
        text, until = self._pace
        return text if time.time() < until else ""
