"""Where time and money went: pieces of a job laid out along one axis of 1000 units, and the sums beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from runner.report.units import duration
from runner.result import Phase, spans
from runner.transcript import (
    AnyEvent,
    ApprovalAnswered,
    CheckRan,
    Event,
    ModelReplied,
    SetupRan,
    ToolDecided,
    ToolRan,
)

WIDTH = 1000
MOST_PIECES = 1_200
"""Of one row; more are merged where they lie closest."""

PHASE_WORDS: dict[Phase, str] = {
    "sandbox": "container",
    "setup": "repository and setup",
    "agent": "agent",
    "branch": "branch",
    "checks": "checks",
    "end": "rest",
}


class Piece(NamedTuple):
    """A rectangle: from `x`, `width` wide, of one kind (a CSS class)."""

    x: float
    width: float
    kind: str
    title: str


class Mark(NamedTuple):
    x: float
    title: str


class Tick(NamedTuple):
    percent: float
    label: str


class Share(NamedTuple):
    kind: str
    word: str
    seconds: float
    percent: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    seconds: float
    phases: list[Piece]
    models: list[Piece]
    tools: list[Piece]
    denied: list[Mark]
    ticks: list[Tick]
    shares: list[Share]
    cost_line: str
    """Points of an SVG polyline in a box of 1000 x 100; empty without costs."""
    cost_end: Decimal


def timeline(events: Sequence[AnyEvent]) -> Timeline:
    total = max((span.end for span in spans(events)), default=0.0) or 1e-3
    axis = _Axis(datetime.fromisoformat(events[0].time), total)
    costs = [(axis.x(event), event.cost_usd) for event in events if isinstance(event, ModelReplied) and event.cost_usd]
    return Timeline(
        seconds=total,
        phases=_merged(_phase_pieces(events, axis)),
        models=_merged(_model_pieces(events, axis)),
        tools=_merged(_tool_pieces(events, axis)),
        denied=_marks(events, axis),
        ticks=_ticks(total),
        shares=_shares(events, total),
        cost_line=_cost_line(costs),
        cost_end=sum((cost for _, cost in costs), Decimal()),
    )


class _Axis:
    def __init__(self, start: datetime, seconds: float) -> None:
        self._start, self._scale = start, WIDTH / seconds

    def x(self, event: Event) -> float:
        elapsed = (datetime.fromisoformat(event.time) - self._start).total_seconds()
        return min(max(elapsed * self._scale, 0.0), WIDTH)

    def piece(self, event: Event, seconds: float, kind: str, title: str) -> Piece:
        """What took `seconds` and ended with the event."""
        end = self.x(event)
        start = max(0.0, end - seconds * self._scale)
        return Piece(start, end - start, kind, f"{title}: {duration(seconds)}")

    def between(self, start: float, end: float, kind: str, title: str) -> Piece:
        return Piece(start * self._scale, (end - start) * self._scale, kind, f"{title}: {duration(end - start)}")


def _phase_pieces(events: Sequence[AnyEvent], axis: _Axis) -> Iterator[Piece]:
    """One piece for each stretch of the same phase."""
    phase, start, end = None, 0.0, 0.0
    for span in spans(events):
        if span.phase != phase and phase is not None:
            yield axis.between(start, end, phase, PHASE_WORDS[phase])
            start = end
        phase, end = span.phase, span.end
    if phase is not None:
        yield axis.between(start, end, phase, PHASE_WORDS[phase])


def _model_pieces(events: Iterable[AnyEvent], axis: _Axis) -> Iterator[Piece]:
    for event in events:
        if isinstance(event, ModelReplied):
            yield axis.piece(event, event.seconds, "model", f"turn {event.turn}")


def _tool_pieces(events: Iterable[AnyEvent], axis: _Axis) -> Iterator[Piece]:
    for event in events:
        match event:
            case ToolRan(ran=True):
                kind = "failed" if event.is_error else "tool"
                yield axis.piece(event, event.seconds, kind, f"turn {event.turn}, {event.name}")
            case ApprovalAnswered():
                yield axis.piece(event, event.seconds, "asked", f"waiting for a person, {event.id}")
            case CheckRan() | SetupRan():
                yield axis.piece(event, event.seconds, "tool" if event.exit_code == 0 else "failed", event.command)


def _marks(events: Iterable[AnyEvent], axis: _Axis) -> list[Mark]:
    denied = [event for event in events if isinstance(event, ToolDecided) and not event.allowed]
    return [Mark(axis.x(event), f"turn {event.turn}: {event.call.name} denied") for event in denied[:MOST_PIECES]]


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    """The same picture with a bounded number of pieces: what lies within a fraction of a unit becomes one."""
    merged: list[Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if last and piece.x + piece.width - last.x < WIDTH / MOST_PIECES:
            kind = "failed" if piece.kind == "failed" else last.kind
            merged[-1] = Piece(last.x, piece.x + piece.width - last.x, kind, "several, each short")
        else:
            merged.append(piece)
    return merged


_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def _ticks(seconds: float) -> list[Tick]:
    """Four to eight round times along the axis."""
    step = next((step for step in _STEPS if seconds / step <= 7), seconds / 6)
    # A label that begins further right would not fit.
    return [Tick(100 * n * step / seconds, _tick(n * step)) for n in range(int(0.94 * seconds / step) + 1)]


def _tick(seconds: float) -> str:
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min" if not rest else f"{minutes}:{rest:02}"
    return f"{seconds:g} s"


def _shares(events: Sequence[AnyEvent], total: float) -> list[Share]:
    """The whole time, split: the agent's into model, tools, waiting for a person and the rest of the loop."""
    phases = dict.fromkeys(PHASE_WORDS, 0.0)
    for span in spans(events):
        phases[span.phase] += span.end - span.start
    model = sum(event.seconds for event in events if isinstance(event, ModelReplied))
    tools = sum(event.seconds for event in events if isinstance(event, ToolRan))
    asked = sum(event.seconds for event in events if isinstance(event, ApprovalAnswered))
    parts = [
        ("model", "model", model),
        ("tool", "tools", tools),
        ("asked", "waiting for a person", asked),
        ("agent", "agent loop", max(0.0, phases.pop("agent") - model - tools - asked)),
        *((phase, PHASE_WORDS[phase], seconds) for phase, seconds in phases.items()),
    ]
    return [Share(kind, word, seconds, min(100.0, 100 * seconds / total)) for kind, word, seconds in parts if seconds]


def _cost_line(costs: Sequence[tuple[float, Decimal]]) -> str:
    """A staircase from the lower left to the upper right, a step for each reply (of very many, for several)."""
    total = sum(cost for _, cost in costs)
    if not total:
        return ""
    points, paid, shown = ["0,100"], Decimal(), Decimal()
    every = 1 + len(costs) // MOST_PIECES
    for number, (x, cost) in enumerate(costs, start=1):
        paid += cost
        if number % every == 0 or number == len(costs):
            points += [f"{x:.1f},{100 - 100 * part / total:.1f}" for part in (shown, paid)]
            shown = paid
    return " ".join([*points, f"{WIDTH},0"])
