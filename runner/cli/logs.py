"""`claw-runner logs JOB|BATCH`: what jobs do, or did, a line for each thing that a person wants to see."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from runner.batch.base import JobRow
from runner.batch.standing import ENDED, UNDER_WAY
from runner.batch.store import Store
from runner.cli.jobs import find_either, is_batch, is_job, typed
from runner.cli.tail import Tail
from runner.report import RESULT, TRANSCRIPT
from runner.report.progress import progress_line
from runner.report.visible import one_line
from runner.transcript import AnyEvent, Diverged, JobEnded, JobStarted, Resumed

POLL_SECONDS = 0.25
"""Between two looks at transcripts."""
LOOK_SECONDS = 1.0
"""Between two looks at a batch's state."""
WIDTH = 80


def logs(
    name: Annotated[
        str, typer.Argument(metavar="JOB|BATCH", help="a folder, an id, BATCH/JOB, or the beginning of one")
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the job or batch ends")] = False,
) -> int:
    """Print what a job did, or each job of a batch in turn.

    With -f: what those under way have done so far, and then whatever is done, until the end. ^C ends nothing else.
    """
    folder = find_either(name)
    if not is_batch(folder):
        _job(folder, follow)
        return 0
    with Store.open(folder) as store:
        if follow:
            _Following(store).run()
        else:
            _each(store)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _log_line(event: AnyEvent) -> str | None:
    """As `run` shows it, and what `run` says otherwise: how it began and ended."""
    match event:
        case JobStarted(time=at):
            return f"began    {at[:10]} {at[11:19]} UTC"
        case Resumed(attempt=attempt, replies=replies):
            return f"resumed  attempt {attempt}; replies paid for, to be played again: {replies:,}"
        case Diverged(turn=turn, what=what):
            return f"differs  from what was played, turn {turn}: {one_line(what)}"[:WIDTH]
        case JobEnded(outcome=outcome, reason=reason):
            line = f"ended    {outcome}: {one_line(reason)}"
            return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
        case _:
            return progress_line(event)


def _print(events: Iterable[AnyEvent], *, lead: str = "") -> None:
    for event in events:
        if line := _log_line(event):
            _say("\n".join(lead + part for part in line.split("\n")))


# -- one job


def _job(folder: Path, follow: bool) -> None:
    with closing(Tail(folder / TRANSCRIPT)) as tail, _end_of(folder) as ended:
        while True:
            over = not follow or ended()  # asked before reading, so that nothing is missed
            _print(tail.events())
            sys.stdout.flush()
            if over:
                return
            time.sleep(POLL_SECONDS)


@contextmanager
def _end_of(folder: Path) -> Iterator[Callable[[], bool]]:
    """Whether a job has ended. Of a batch's job its store knows: an attempt that ended may be followed by another."""
    if not is_batch(folder.parent):
        yield (folder / RESULT).exists
        return
    with Store.open(folder.parent) as store:
        yield lambda: store.job(folder.name).state == "ended"


# -- a batch


def _each(store: Store) -> None:
    for row in store.jobs(whole=False):
        folder = store.folder / row.planned.id
        if is_job(folder):
            _say(f"== {one_line(row.planned.id)}  {one_line(row.planned.title)}"[:WIDTH])
            with closing(Tail(folder / TRANSCRIPT)) as tail:
                _print(tail.events())


class _Following:
    """All jobs that are under way, each line led by its job."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ended = {row.planned.id for row in store.jobs(states=ENDED, whole=False)}
        self._tails: dict[str, Tail] = {}
        self._last: set[str] = set()
        """Jobs that have ended, whose last lines are still to be read."""

    def run(self) -> None:
        if not self._tails and self._store.counts().jobs == len(self._ended):
            _say(f"every job of it has ended; claw-runner status {typed(self._store.folder)}")
        looked = -LOOK_SECONDS
        over = False
        while not over:
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked, over = time.monotonic(), self._look()
            self._read()
            time.sleep(0 if over else POLL_SECONDS)

    def _look(self) -> bool:
        """See which jobs there are to follow. True: the batch is over."""
        for row in self._store.jobs(states=UNDER_WAY, whole=False):
            self._follow(row)
        counts = self._store.counts()
        if counts.states.get("ended", 0) != len(self._ended):
            now = {row.planned.id: row for row in self._store.jobs(states=ENDED, whole=False)}
            for id in now.keys() - self._ended:
                self._follow(now[id])
            self._last |= now.keys() - self._ended
            self._ended = set(now)
        if self._store.asked_to_stop() and not self._store.runners():
            _say(f"the batch was stopped; claw-runner resume {typed(self._store.folder)}")
            return True
        return counts.jobs == len(self._ended)

    def _follow(self, row: JobRow) -> None:
        id = row.planned.id
        if id not in self._tails:
            self._tails[id] = Tail(self._store.folder / id / TRANSCRIPT)

    def _read(self) -> None:
        for id, tail in self._tails.items():
            _print(tail.events(), lead=f"{one_line(id)}  ")
        sys.stdout.flush()
        for id in self._last:
            self._tails.pop(id).close()
        self._last.clear()
