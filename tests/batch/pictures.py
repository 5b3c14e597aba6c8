"""Batches to be looked at, which nobody works on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len

from runner.batch.base import BatchEvent, Counts, Totals
from runner.batch.board import Board
from runner.batch.picture import Picture, draw
from runner.batch.standing import Pace, Standing
from runner.errors import Outcome
from runner.transcript import AnyEvent

NAME = "fix-issues-20261121-9f3a"


def standing(
    outcomes: Mapping[Outcome, int] | None = None, *, running: int = 0, queued: int = 0, **more: Any
) -> Standing:
    """`more`: spent, reserved, doubtful, cap."""
    ended = sum((outcomes or {}).values())
    states = {"ended": ended, "running": running, "queued": queued}
    counts = Counts(states={state: count for state, count in states.items() if count}, outcomes=outcomes or {})  # type: ignore[misc]
    cap = more.pop("cap", None)
    totals = Totals(**{"spent": 0, "reserved": 0, "doubtful": 0, "tokens": 0, "turns": 0} | more)
    return Standing(counts=counts, totals=totals, cap=cap)


def started(board: Board, job: str, *, title: str = "", attempt: int = 1, ago: float = 0.0) -> None:
    board.see(BatchEvent(kind="job_started", time=time.time() - ago, job=job, attempt=attempt, text=title))


def happens(board: Board, job: str, *events: AnyEvent, attempt: int = 1) -> None:
    for event in events:
        board.see(BatchEvent(kind="job_event", time=time.time(), job=job, attempt=attempt, event=event))


def drawn(board: Board, now: Standing, *, width: int = 80, height: int = 24, pace: Pace | None = None) -> list[str]:
    """The lines of the picture, which fit into the terminal."""
    picture = Picture(NAME, board, now, pace or Pace(), 724.0, width, height)
    lines = draw(picture, time.time()).plain.split("\n")
    assert len(lines) < height
    assert max(map(cell_len, lines)) <= width
    return lines
