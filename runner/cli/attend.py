"""Working a batch off with somebody looking on, who may stop it: what `batch` and `resume` have in common."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import FrameType

from runner.batch.base import BatchEvent, Execute
from runner.batch.board import Board
from runner.batch.lines import json_line
from runner.batch.live import Way, followed, hang_up
from runner.batch.scheduler import Stop, Summary, run_batch
from runner.batch.standing import ENDED, standing
from runner.batch.store import Store
from runner.batch.summary import summary_lines
from runner.cli.jobs import is_in_runs, typed
from runner.cli.screen import print_lines, screen_width
from runner.cli.signals import heard_by
from runner.errors import EXIT_CODES, OUTCOMES
from runner.ledger import in_usd
from runner.report.units import plural

FAILURES = tuple(outcome for outcome in OUTCOMES if EXIT_CODES[outcome] != 0)

Report = Callable[[Path], Path | None]
"""Writes the report of the batch in a folder; returns the file to look at."""


Watch = Callable[[BatchEvent], None]


def attend(store: Store, executor: Callable[[Watch], Execute], way: Way, *, report: Report) -> int:
    """Do the jobs of a batch and say how it went; returns the exit code.

    `executor` makes what does a job, and may tell whoever looks on of what concerns all jobs. The first ^C lets the
    jobs under way end, the second leaves them half-way; SIGTERM and SIGHUP do so at once. However it ends, `resume` can
    go on with it.
    """
    stop = Stop()
    runs = None if is_in_runs(store.folder) else store.folder.parent
    look = partial(standing, store)
    with (
        followed(way, name=store.spec.id, look=look, out=sys.stdout, err=sys.stderr, runs=runs) as view,
        _stop_signals(stop, view.board),
    ):
        summary = run_batch(store, execute=executor(view.see), watch=view.see, stop=stop)
    written = report(store.folder)
    try:
        if way == "json":
            sys.stdout.write(_last_line(store, summary, written) + "\n")
        else:
            if way == "live":
                print()
            _say_how_it_went(store, summary, written)
        sys.stdout.flush()
    except OSError:
        hang_up(sys.stdout)  # the terminal is gone, or who read it: the jobs' outcome is what counts
    return summary.exit_code


def _stop_signals(stop: Stop, board: Board) -> AbstractContextManager[None]:
    """Inside, signals stop the batch in place of raising Cancelled."""

    def asked(number: int, frame: FrameType | None) -> None:
        # In the middle of anything that this thread does: so nothing here may wait for a lock.
        if stop.asked == "now":
            os._exit(128 + number)
        elif number == signal.SIGINT and stop.asked is None:
            stop.drain(number)
            board.notice = f"finishing {plural(board.begun(), 'running job')}; ^C again leaves them half-way"
        else:
            stop.now(number)
            board.notice = "leaving what runs half-way, to be resumed; once more ends at once"

    return heard_by(asked)


def _say_how_it_went(store: Store, summary: Summary, report: Path | None) -> None:
    failed = list(store.jobs(states=ENDED, outcomes=FAILURES, whole=False))
    print_lines(
        summary_lines(store.spec, summary, failed, typed=typed(store.folder), report=report, width=screen_width())
    )


def _last_line(store: Store, summary: Summary, report: Path | None) -> str:
    """The last event, with all that the summary says."""
    event = BatchEvent(kind="batch_ended", time=time.time(), text=summary.why)
    return json_line(
        event,
        batch=store.spec.id,
        folder=str(store.folder),
        exit_code=summary.exit_code,
        left=summary.left,
        outcomes=dict(summary.counts.outcomes),
        cost_usd=format(in_usd(summary.totals.spent), "f"),
        doubtful_usd=format(in_usd(summary.totals.doubtful), "f"),
        seconds=round(summary.seconds, 3),
        report=str(report) if report else None,
    )
