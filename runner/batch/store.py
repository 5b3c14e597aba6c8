"""The state of a batch: one SQLite file in the batch's folder, worked on by any number of threads and processes.

    queued → leased → running ⇄ checking → ended

A lease is the right to do a job for some time. Each lease of a job has a number that grows, its fence, and whatever is
written about a job is written only if the fence is still the last one: a runner that was taken for dead and comes back
changes nothing. A job that has ended is leased again only when a person wants it (`again`).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from runner.batch import database, rows
from runner.batch import ledger as money
from runner.batch.base import BatchSpec, Counts, Ended, Holder, JobRow, Lease, Limits, Planned, State, Totals
from runner.errors import ConfigError, Outcome
from runner.sandbox import owner as owners

FILE = "batch.sqlite"
_UNFINISHED = ".claw-batch.sqlite"
"""The file while it is made."""
LONGEST_WAIT_SECONDS = 3600.0
"""A job is never queued to wait longer: a time further away was written before the clock was set back."""
_ROWS = 500
"""That are read at once."""

_BEFORE: dict[State, tuple[State, ...]] = {"leased": (), "running": ("leased", "checking"), "checking": ("running",)}
"""From which states a job may go on to each. From checking back to running: what failed is repaired."""


class Store:
    """Thread-safe. Every method but `create` and `open` raises StoreError when the file cannot be read or written.

    Processes that work on one batch run on one machine, be it in several containers: SQLite shares memory between them,
    which no network file system can. `clock` gives seconds since the epoch. When it jumps, leases may expire too early
    or late; two runners still never both write about a job.
    """

    def __init__(self, folder: Path, opened: database.Database, clock: Callable[[], float]) -> None:
        """Takes what `create` and `open` made; use those."""
        self.folder = folder
        self._database = opened
        self._clock = clock
        with opened.reading() as db:
            self._spec = rows.spec(db)

    @classmethod
    def create(
        cls, folder: Path, spec: BatchSpec, jobs: Iterable[Planned], *, clock: Callable[[], float] = time.time
    ) -> Store:
        """Make a batch's file, with its folder. After a crash it is there whole, or it is not there.

        A key that comes twice is one job, the first. Raises ConfigError when there is a batch already, when two jobs
        would have one id, or when the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                _make(folder, spec, jobs)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"{folder}: cannot make a batch here: {error}; free the disk or name another folder"
            ) from error
        return cls.open(folder, clock=clock)

    @classmethod
    def open(cls, folder: Path, *, clock: Callable[[], float] = time.time) -> Store:
        """Raises ConfigError when there is no batch, or one that cannot be used."""
        path = folder / FILE
        opened = database.open_checked(path)
        try:
            return cls(folder, opened, clock)
        except BaseException as error:
            opened.close()
            if isinstance(error, ValueError | TypeError | KeyError):
                raise ConfigError(f"{path}: damaged: its spec cannot be read: {error}; {database.MEND}") from error
            raise

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what was asked for

    @property
    def spec(self) -> BatchSpec:
        return self._spec

    def change_limits(self, limits: Limits, *, on_difference: Literal["stop", "go_on"] | None = None) -> None:
        """For this runner and those that open the batch later. The cap on cost: for all, from now on."""
        changed = replace(self._spec, limits=limits, on_difference=on_difference or self._spec.on_difference)
        with self._database.writing() as db:
            rows.change_spec(db, changed)
            db.execute("UPDATE purse SET cap = ?", (money.cap_micro_usd(limits.cost_usd),))
        self._spec = changed

    # --- leases

    def lease(self, owner: str, *, seconds: float) -> Lease | None:
        """Take the next job. None: there is nothing to take now; see `next_at`.

        First come jobs whose runner is dead or has let its lease expire, then those that are queued and need not wait
        any more; among each, in the order of the source. `owner` tells who takes it, as `runner.sandbox.owner` does.
        """
        with self._database.writing() as db:
            now = self._clock()
            _expire_dead(db, owner)
            number = _expired(db, now) or _queued(db, now)
            if number is None:
                return None
            db.execute(
                "UPDATE jobs SET state = 'leased', attempt = attempt + 1, fence = fence + 1, owner = ?,"
                " lease_until = ?, not_before = 0 WHERE number = ?",
                (owner, now + seconds, number),
            )
            job = rows.job(db, number)
            return Lease(job=job, fence=job.fence)

    def next_at(self) -> float | None:
        """When there may be something to take: seconds since the epoch, perhaps in the past. None: all have ended."""
        with self._database.reading() as db:
            if _dead(db, but=""):
                return self._clock()
            (at,) = db.execute(
                "SELECT min(at) FROM (SELECT min(not_before) AS at FROM jobs WHERE state = 'queued'"
                " UNION ALL SELECT min(lease_until) FROM jobs WHERE owner <> '')"
            ).fetchone()
        return None if at is None else float(at)

    def renew(self, lease: Lease, *, seconds: float) -> None:
        """Keep a lease for so long from now. Raises Fenced."""
        with self._written(lease) as db:
            db.execute("UPDATE jobs SET lease_until = ? WHERE number = ?", (self._clock() + seconds, lease.job.number))

    def advance(self, lease: Lease, state: State) -> None:
        """Say how far the job is; to say it twice changes nothing. Raises Fenced.

        A fresh attempt that runs has begun: the attempt after it goes on with it.
        """
        with self._database.writing() as db:
            now = money.demand_held(db, lease)
            if now == state:
                return
            assert now in _BEFORE.get(state, ()), f"a job does not go from {now} to {state}"
            db.execute(
                "UPDATE jobs SET state = ?, fresh = fresh AND ? <> 'running' WHERE number = ?",
                (state, state, lease.job.number),
            )

    def end(self, lease: Lease, ended: Ended) -> None:
        """The job is done, for good. Raises Fenced."""
        with self._written(lease) as db:
            _end_attempt(db, lease, ended, "ended", failed=0, not_before=0)
            money.give_up(db, lease.job.number)

    def requeue(self, lease: Lease, ended: Ended, *, not_before: float) -> None:
        """The attempt failed, and another one may do better, not before that time. Raises Fenced."""
        with self._written(lease) as db:
            _end_attempt(db, lease, ended, "queued", failed=1, not_before=not_before)

    def release(self, lease: Lease) -> None:
        """The job was left half-way, and whoever takes it next goes on with it. Raises Fenced."""
        with self._written(lease) as db:
            db.execute("UPDATE jobs SET state = 'queued', owner = '' WHERE number = ?", (lease.job.number,))

    def effect(self, lease: Lease, name: str, value: str) -> str:
        """What a side effect of the job is, recorded before it is done: `value`, unless an earlier attempt said so.

        Whoever does it does what this returns, so that it is done once however often it is begun. Raises Fenced.
        """
        with self._written(lease) as db:
            db.execute("INSERT OR IGNORE INTO effects VALUES (?, ?, ?)", (lease.job.number, name, value))
            recorded = db.execute("SELECT value FROM effects WHERE job = ? AND name = ?", (lease.job.number, name))
            return str(recorded.fetchone()[0])

    # --- money

    def ledger(self, lease: Lease) -> money.BatchLedger:
        return money.BatchLedger(self._database, lease)

    def recover(self, lease: Lease, *, spent: int, doubtful: int, whole: bool = True) -> None:
        """Earlier attempts at the job cost `spent` micro-USD, all together and proven, and perhaps `doubtful` more.

        Not `whole`: some of what they wrote is gone, so that they may have cost more than that. To be called before
        the first reservation of an attempt that follows another. Raises Fenced.
        """
        with self._written(lease) as db:
            money.recover(db, lease, spent=spent, doubtful=doubtful, whole=whole)

    def totals(self) -> Totals:
        with self._database.reading() as db:
            spent, reserved, doubtful, tokens, turns = db.execute(
                "SELECT spent, reserved, doubtful, tokens, turns FROM purse,"
                " (SELECT coalesce(sum(tokens), 0) AS tokens, coalesce(sum(turns), 0) AS turns FROM jobs)"
            ).fetchone()
        return Totals(spent=spent, reserved=reserved, doubtful=doubtful, tokens=tokens, turns=turns)

    # --- looking

    def job(self, id: str) -> JobRow:
        """Raises ConfigError when the batch has no such job."""
        with self._database.reading() as db:
            return rows.job(db, self._number(db, id))

    def jobs(
        self,
        *,
        states: Collection[State] | None = None,
        outcomes: Collection[Outcome] | None = None,
        whole: bool = True,
    ) -> Iterator[JobRow]:
        """The jobs in the order of the source, each as it is when its turn comes. `outcomes`: of those that have ended.

        Not `whole`: `planned` has its id, key, title and source alone, which is quick for any number of jobs.
        """
        after = 0
        while True:
            with self._database.reading() as db:
                found = rows.jobs(db, after=after, most=_ROWS, states=states, outcomes=outcomes, whole=whole)
            yield from found
            if len(found) < _ROWS:
                return
            after = found[-1].number

    def counts(self) -> Counts:
        states: dict[State, int] = {}
        outcomes: dict[Outcome, int] = {}
        with self._database.reading() as db:
            for state, outcome, jobs in db.execute("SELECT state, outcome, count(*) FROM jobs GROUP BY state, outcome"):
                states[state] = states.get(state, 0) + jobs
                if state == "ended":
                    outcomes[outcome] = jobs
        return Counts(states=states, outcomes=outcomes)

    def runners(self) -> list[Holder]:
        """Who works on the batch: holds leases that have not expired, and is not known to be dead."""
        with self._database.reading() as db:
            held = db.execute(
                "SELECT owner, count(*), max(lease_until) FROM jobs"
                " WHERE owner <> '' AND lease_until > ? GROUP BY owner",
                (self._clock(),),
            ).fetchall()
        holders = [Holder(owner=owner, jobs=jobs, lease_until=until) for owner, jobs, until in held]
        return [holder for holder in holders if owners.state(holder.owner) != "dead"]

    # --- what a person wants

    def again(self, outcomes: Collection[Outcome] = (), ids: Collection[str] = (), *, fresh: bool) -> int:
        """Queue jobs again that have ended: those with such an outcome, and those that are named. Returns how many.

        `fresh`: from the start; otherwise they go on with what was paid for. Raises ConfigError for an unknown id.
        """
        with self._database.writing() as db:
            numbers = {self._number(db, id) for id in ids}
            ended = db.execute("SELECT number, outcome FROM jobs WHERE state = 'ended'").fetchall()
            chosen = [number for number, outcome in ended if number in numbers or outcome in outcomes]
            db.executemany(
                "UPDATE jobs SET state = 'queued', not_before = 0, tries = 0, fresh = ? WHERE number = ?",
                [(fresh, number) for number in chosen],
            )
        return len(chosen)

    def ask_to_stop(self, how: Literal["drain", "now"]) -> None:
        """For all runners that work on the batch. drain: begin no further job. now: leave those that run, too."""
        with self._database.writing() as db:
            db.execute("UPDATE batch SET stop = ? WHERE stop IS NOT 'now'", (how,))

    def asked_to_stop(self) -> Literal["drain", "now"] | None:
        with self._database.reading() as db:
            asked: tuple[Literal["drain", "now"] | None] = db.execute("SELECT stop FROM batch").fetchone()
        return asked[0]

    def clear_stop(self) -> None:
        with self._database.writing() as db:
            db.execute("UPDATE batch SET stop = NULL")

    # --- inside

    @contextmanager
    def _written(self, lease: Lease) -> Iterator[sqlite3.Connection]:
        """A transaction of who holds a lease. Raises Fenced."""
        with self._database.writing() as db:
            money.demand_held(db, lease)
            yield db

    def _number(self, db: sqlite3.Connection, id: str) -> int:
        found = db.execute("SELECT number FROM jobs WHERE id = ?", (id,)).fetchone()
        if found is None:
            raise ConfigError(f"{self.folder / FILE}: has no job {id!r}; claw-runner status lists them")
        return int(found[0])


# --- making the file


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else makes a batch in this folder meanwhile; what was made is on the disk after the block."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _make(folder: Path, spec: BatchSpec, jobs: Iterable[Planned]) -> None:
    if (folder / FILE).exists():
        raise ConfigError(f"{folder / FILE}: there is a batch already; go on with: claw-runner resume {folder}")
    unfinished = folder / _UNFINISHED
    try:
        _remove(unfinished)  # of a process that was killed
        _fill(unfinished, spec, jobs)
        unfinished.replace(folder / FILE)
    finally:
        _remove(unfinished)


def _remove(unfinished: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _fill(path: Path, spec: BatchSpec, jobs: Iterable[Planned]) -> None:
    """Raises ConfigError when two jobs would have one id."""
    with database.created(path) as db:
        rows.add_spec(db, spec)
        db.execute("INSERT INTO purse (cap) VALUES (?)", (money.cap_micro_usd(spec.limits.cost_usd),))
        for number, planned in enumerate(_distinct(jobs), 1):
            rows.add_job(db, number, planned)


def _distinct(jobs: Iterable[Planned]) -> Iterator[Planned]:
    """The first job of each key."""
    keys: set[str] = set()
    sources: dict[str, str] = {}
    for planned in jobs:
        if planned.key in keys:
            continue
        if planned.id in sources:
            raise ConfigError(
                f"{planned.source}: its job would have the id {planned.id!r}, as that of {sources[planned.id]} has; "
                "give them different names"
            )
        keys.add(planned.key)
        sources[planned.id] = planned.source
        yield planned


# --- leases


def _dead(db: sqlite3.Connection, *, but: str) -> list[str]:
    """Runners that hold leases and are known to be dead. Whoever asks is not looked at."""
    holders = db.execute("SELECT DISTINCT owner FROM jobs WHERE owner <> '' AND owner <> ?", (but,)).fetchall()
    return [owner for (owner,) in holders if owners.state(owner) == "dead"]


def _expire_dead(db: sqlite3.Connection, asking: str) -> None:
    for owner in _dead(db, but=asking):
        db.execute("UPDATE jobs SET lease_until = 0 WHERE owner <> '' AND owner = ?", (owner,))


# SQLite would go through the jobs in order until one fits, which is quick only while one of the first does: so these
# say which index to use.


def _expired(db: sqlite3.Connection, now: float) -> int | None:
    query = "SELECT min(number) FROM jobs INDEXED BY held WHERE owner <> '' AND lease_until <= ?"
    return _first(db.execute(query, (now,)))


def _queued(db: sqlite3.Connection, now: float) -> int | None:
    """The first in order. Those that never had to wait are many, but in order in the index; the others are few."""
    queued = "FROM jobs INDEXED BY queue WHERE state = 'queued'"
    new = _first(db.execute(f"SELECT number {queued} AND not_before = 0 ORDER BY number LIMIT 1"))
    due = "not_before > 0 AND (not_before <= ? OR not_before > ?)"
    waited = _first(db.execute(f"SELECT min(number) {queued} AND {due}", (now, now + LONGEST_WAIT_SECONDS)))
    return min((number for number in (new, waited) if number is not None), default=None)


def _first(found: sqlite3.Cursor) -> int | None:
    row: tuple[int | None] | None = found.fetchone()
    return None if row is None else row[0]


def _end_attempt(
    db: sqlite3.Connection, lease: Lease, ended: Ended, state: State, *, failed: int, not_before: float
) -> None:
    db.execute(
        "UPDATE jobs SET state = ?, owner = '', tries = tries + ?, not_before = ?,"
        " outcome = ?, tokens = ?, turns = ?, ended = ? WHERE number = ?",
        (
            *(state, failed, not_before),
            *(ended.outcome, ended.tokens, ended.turns, rows.ended_text(ended)),
            lease.job.number,
        ),
    )
