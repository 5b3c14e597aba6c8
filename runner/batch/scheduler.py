"""Works a batch off: leases jobs from its store, does each in a thread of its own, and writes down how it ended.

`run_batch` is the loop, in the thread that calls it. Everything that it waits for (an attempt that ended, a stop, a
failure of the store) comes to it through one queue, so that nothing else decides and nothing is missed. A second thread
renews the leases. What must survive is in the store; what is here may be killed at any time.
"""

from __future__ import annotations

import random
import signal as signals
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Literal

from runner.batch.base import Attempt, BatchEvent, Counts, Ended, EventKind, Execute, Fenced, Lease, StoreError, Totals
from runner.batch.causes import Final, Retry, ended_by, is_bug, verdict
from runner.batch.patience import Patience
from runner.batch.rates import Bucket
from runner.batch.store import Store
from runner.errors import EXIT_CODES, Cancelled
from runner.ledger import Ledger
from runner.sandbox import owner as owners

LEASE_SECONDS = 60.0
"""A lease is renewed when a third of it is over."""
LOOK_SECONDS = 1.0
"""How often the store is asked for what other processes did: stop the batch, end a job, die over one."""
BUG = 70
WORST_FIRST = (BUG, 130, 21, 20, 22, 23, 14, 13, 12, 10, 11, 2, 0)
"""Exit codes. A batch has the worst that its jobs have: first what is ours, then what is the outside's, then what the
agents left undone, then what only needs a file mended. A batch that was stopped before its end has the signal's."""

Why = Literal["done", "stopped", "batch.cost_usd"]


class Stop:
    """Asks a batch to end early. Its methods may be called from any thread, and by signal handlers."""

    def __init__(self) -> None:
        self.exit_code = 128 + signals.SIGINT
        self._draining = False
        self._stopped = False
        self._wake: Callable[[], None] = lambda: None

    def drain(self, signal: int = signals.SIGINT) -> None:
        """Start nothing new; let what runs end."""
        self._draining = True
        self._ask(signal)

    def now(self, signal: int = signals.SIGINT) -> None:
        """Leave what runs half-way, to be resumed."""
        self._stopped = True
        self._ask(signal)

    @property
    def asked(self) -> Literal["drain", "now"] | None:
        # Flags that are only ever set need no lock, which a signal handler could not take.
        return "now" if self._stopped else "drain" if self._draining else None

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called at once whenever something is asked for; it must be safe in a signal handler."""
        self._wake = wake

    def _ask(self, signal: int) -> None:
        self.exit_code = 128 + signal
        self._wake()


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How a batch lies there when its runner goes away."""

    why: Why
    """done: every job has ended. stopped: somebody asked for it. batch.cost_usd: the money was not enough."""
    counts: Counts
    """Of the whole batch."""
    left: int
    """Jobs that have not ended; a resume goes on with them."""
    bugs: int
    """Jobs of this run that ended by a bug of ours. They are counted as `sandbox_error`."""
    totals: Totals
    """Of the whole batch."""
    seconds: float
    """Of this run."""
    exit_code: int


@dataclass(eq=False, slots=True)
class _Running:
    """An attempt under way."""

    lease: Lease
    thread: threading.Thread = field(init=False)
    begun: bool = False
    """Its agent works, or has worked: a batch that drains lets it end."""
    lost: bool = False
    """Another runner has the job now: nothing is written about it any more."""
    refused: bool = False
    """The batch had not enough money for one of its requests."""
    failed_by_bug: bool = False


def run_batch(
    store: Store,
    *,
    execute: Execute,
    watch: Callable[[BatchEvent], None],
    stop: Stop,
    owner: str | None = None,
    clock: Callable[[], float] = time.time,
    lease_seconds: float = LEASE_SECONDS,
) -> Summary:
    """Do the jobs of a batch until all have ended, `stop` says otherwise, or its money is spent.

    At most `limits.jobs` agents work at a time, and `limits.ahead` more jobs have their sandbox prepared. `watch` sees
    everything that happens, one event at a time, from any thread; it must not raise. `owner` says in the leases whose
    they are: this process, when it is None. `clock` is the store's. Raises StoreError when the store cannot be read or
    written any more; the batch can be resumed then, too.
    """
    return _Work(store, execute, watch, stop, owner or owners.mine(), clock, lease_seconds).run()


class _Work:
    """What one runner does on a batch. What is not said to be of any thread, only the one that called `run` changes."""

    def __init__(
        self,
        store: Store,
        execute: Execute,
        watch: Callable[[BatchEvent], None],
        stop: Stop,
        owner: str,
        clock: Callable[[], float],
        lease_seconds: float,
    ) -> None:
        self._store = store
        self._limits = store.spec.limits
        self._execute = execute
        self._watch = watch
        self._watching = threading.Lock()
        self._stop = stop
        self._owner = owner
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._rate = Bucket(self._limits.jobs_per_minute)
        self._slots = _Slots(self._limits.jobs, self._may_not_work)
        self._patience = Patience()
        self._running: set[_Running] = set()
        self._looked_at = 0.0
        self._renewed_at = clock()  # of any thread
        self._bugs = 0
        # Attempts that ended, errors that end the run, None for a mere wake-up. A SimpleQueue, because a signal handler
        # may put something into it while this very thread takes something out.
        self._news: SimpleQueue[_Running | BaseException | None] = SimpleQueue()
        self._over = threading.Event()
        self._spent_up = False  # the batch's money is; of any thread

    def run(self) -> Summary:
        started = time.monotonic()
        self._stop.listen(partial(self._news.put, None))
        self._tell("batch_started", text=f"{self._store.spec.source}: {_left(self._store.counts()):,} to do")
        with self._kept():
            while (wait := self._start_what_may_start()) is not None or self._running:
                self._hear(LOOK_SECONDS if wait is None else min(wait, LOOK_SECONDS))
        summary = self._summary(time.monotonic() - started)
        self._tell("batch_ended", text=f"{summary.why}; {summary.left} jobs left")
        return summary

    def _start_what_may_start(self) -> float | None:
        """Returns the seconds until there may be more to start; None when there will be none."""
        self._look()
        while not self._closing():
            if len(self._running) >= self._limits.jobs + self._limits.ahead:
                return LOOK_SECONDS
            if (wait := self._rate.wait_seconds()) > 0:
                return None if self._store.next_at() is None else wait
            if self._clock() - self._renewed_at > self._lease_seconds / 2:
                # This process stood still for a while, or we would take our own jobs for those of a dead runner.
                self._renew_all()
            lease = self._store.lease(self._owner, seconds=self._lease_seconds)
            if lease is None:
                at = self._store.next_at()
                return None if at is None else max(0.0, at - self._clock())
            self._rate.take()
            self._begin(lease)
        return None

    def _begin(self, lease: Lease) -> None:
        running = _Running(lease)
        self._tell("job_started", running, text=lease.job.planned.title)
        running.thread = threading.Thread(target=self._attempt, args=(running,), name=lease.job.planned.id)
        running.thread.start()
        self._running.add(running)

    def _hear(self, seconds: float) -> None:
        """Wait for news, at most so long."""
        with suppress(Empty):
            match self._news.get(timeout=seconds):
                case _Running() as ended:
                    ended.thread.join()
                    self._running.discard(ended)
                    self._bugs += ended.failed_by_bug
                case BaseException() as error:
                    raise error
                case None:
                    pass
        self._wake_who_waits()

    def _wake_who_waits(self) -> None:
        """For a slot or for money; those who must not wait any longer leave."""
        self._slots.look_again()
        self._patience.look_again()

    def _look(self) -> None:
        """Whether another process asked for a stop."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        match self._store.asked_to_stop():
            case "drain":
                self._stop.drain(signals.SIGTERM)
            case "now":
                self._stop.now(signals.SIGTERM)
            case None:
                pass

    def _closing(self) -> bool:
        """Whether nothing new is to be started."""
        return self._stop.asked is not None or self._spent_up

    # -- in the thread of an attempt

    def _attempt(self, running: _Running) -> None:
        try:
            ended = self._executed(running)
            if ended is None:
                self._leave(running)
            else:
                self._finish(running, ended)
        except Fenced:
            self._tell("job_left", running, text="another runner has this job now; what was done here does not count")
        except BaseException as error:
            self._news.put(error)
        finally:
            self._news.put(running)

    def _executed(self, running: _Running) -> Ended | None:
        """How the attempt ended; None when it was left half-way."""
        ledger = self._patience.ledger(
            self._store.ledger(running.lease),
            is_to_leave=partial(self._is_stopped, running),
            on_refusal=partial(self._refused, running),
        )
        try:
            with closing(ledger):
                ended = self._execute(self._attempt_of(running, ledger))
            return None if ended.outcome == "cancelled" else ended
        except Cancelled:
            return None
        except (Fenced, StoreError):
            raise
        except Exception as error:
            ended = ended_by(error)
            running.failed_by_bug = is_bug(ended)
            if running.failed_by_bug:
                self._tell("note", running, text="".join(traceback.format_exception(error)))
            return ended

    def _attempt_of(self, running: _Running, ledger: Ledger) -> Attempt:
        return Attempt(
            lease=running.lease,
            folder=self._store.folder / running.lease.job.planned.id,
            ledger=ledger,
            slot=partial(self._slots.one, running),
            enter=partial(self._store.advance, running.lease),
            watch=lambda event: self._tell("job_event", running, event=event),
            stopped=partial(self._is_stopped, running),
        )

    def _leave(self, running: _Running) -> None:
        """Somebody else, or a later run, goes on with it."""
        if running.lost:
            raise Fenced(running.lease.job.planned.id)
        self._store.release(running.lease)
        self._tell("job_left", running, text="left half-way, to be resumed")
        if not self._closing():
            # Nobody told the attempt to stop but the user or the system, who meant all of them.
            self._stop.now()

    def _finish(self, running: _Running, ended: Ended) -> None:
        """Write down how an attempt ended, and whether it is tried again."""
        if running.lost:
            raise Fenced(running.lease.job.planned.id)
        if running.refused and ended.outcome == "limit" and ended.turns == 0 and not ended.cost_micro_usd:
            # It has not begun: with more money, a resume does it from the start.
            self._store.release(running.lease)
            self._tell("job_left", running, text=f"not begun: {ended.reason}")
            return
        job = running.lease.job
        match verdict(ended, tries=job.tries, limits=self._limits, spread=random.random()):
            case Retry(wait):
                self._store.requeue(running.lease, ended, not_before=self._clock() + wait)
                self._tell("job_retried", running, ended=ended, text=ended.reason, wait_seconds=wait)
            case Final(why):
                self._store.end(running.lease, ended)
                self._tell("job_ended", running, ended=ended, text=f"{ended.reason}{f' ({why})' if why else ''}")

    def _refused(self, running: _Running) -> None:
        """The batch's money does not suffice: nothing new is begun."""
        running.refused = self._spent_up = True

    def _is_stopped(self, running: _Running) -> bool:
        return self._stop.asked == "now" or running.lost

    def _may_not_work(self, running: _Running) -> bool:
        return self._is_stopped(running) or (self._closing() and not running.begun)

    # -- the leases

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Renews leases meanwhile. Leaves no thread behind: after an error, attempts are left half-way."""
        keeper = threading.Thread(target=self._keep, name="leases")
        keeper.start()
        try:
            yield
        except BaseException:
            self._stop.now()
            self._wake_who_waits()
            raise
        finally:
            for running in self._running:
                running.thread.join()
            self._over.set()
            keeper.join()

    def _keep(self) -> None:
        while not self._over.wait(self._lease_seconds / 3):
            try:
                self._renew_all()
            except StoreError as error:
                self._news.put(error)

    def _renew_all(self) -> None:
        self._renewed_at = self._clock()
        for running in tuple(self._running):
            try:
                self._store.renew(running.lease, seconds=self._lease_seconds)
            except Fenced:
                # Or it has just ended, when nobody looks at this any more.
                running.lost = True

    # -- what is said about it

    def _tell(self, kind: EventKind, running: _Running | None = None, **more: Any) -> None:
        job = running.lease.job if running else None
        name, attempt = (job.planned.id, job.attempt) if job else ("", 0)
        with self._watching:
            self._watch(BatchEvent(kind=kind, time=self._clock(), job=name, attempt=attempt, **more))

    def _summary(self, seconds: float) -> Summary:
        counts = self._store.counts()
        left = _left(counts)
        why: Why = "done" if not left else "stopped" if self._stop.asked else "batch.cost_usd"
        return Summary(
            why=why,
            counts=counts,
            left=left,
            bugs=self._bugs,
            totals=self._store.totals(),
            seconds=seconds,
            exit_code=self._stop.exit_code if why == "stopped" else self._worst(counts, why),
        )

    def _worst(self, counts: Counts, why: Why) -> int:
        codes = {0, *(EXIT_CODES[outcome] for outcome in counts.outcomes)}
        if self._bugs:
            codes.add(BUG)
        if why == "batch.cost_usd":
            codes.add(EXIT_CODES["limit"])
        return next(code for code in WORST_FIRST if code in codes)


def _left(counts: Counts) -> int:
    return counts.jobs - counts.states.get("ended", 0)


class _Slots:
    """Lets so many agents work at the same time."""

    def __init__(self, count: int, must_leave: Callable[[_Running], bool]) -> None:
        self._free = count
        self._must_leave = must_leave
        self._news = threading.Condition()

    @contextmanager
    def one(self, running: _Running) -> Iterator[None]:
        """Raises Cancelled when the attempt must not begin, or go on."""
        with self._news:
            self._news.wait_for(lambda: self._free > 0 or self._must_leave(running))
            if self._must_leave(running):
                raise Cancelled
            self._free -= 1
        running.begun = True
        try:
            yield
        finally:
            with self._news:
                self._free += 1
                self._news.notify_all()

    def look_again(self) -> None:
        """Something happened that those who wait may have to leave for."""
        with self._news:
            self._news.notify_all()
