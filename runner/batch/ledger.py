"""The money of a batch: reservations in its state file, so that all its runners together keep within one cap.

A reservation is a row of `money`. `reserved`: its request may be under way. `settled`: what it cost is known. A runner
may die in between; then the row stays reserved, and so counts against the cap, until the job's next attempt has found
out what was paid (`recover`), or the job ends without one (`give_up`). The sums of all rows stand in `purse`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from runner.batch.base import Fenced, Lease, State
from runner.batch.database import Database
from runner.ledger import MICRO, Refusal, Reservation


def cap_micro_usd(cost_usd: float | None) -> int | None:
    """Rounded down: what a person wrote is never exceeded."""
    return None if cost_usd is None else int((Decimal(str(cost_usd)) * MICRO).to_integral_value(ROUND_FLOOR))


class BatchLedger:
    """A `runner.ledger.Ledger`: the batch's cap, for the requests of one attempt at one job.

    `reserve` raises Fenced when the attempt's lease is lost. `settle` does not: a request that was sent costs what it
    costs, whoever has the job by now.
    """

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease

    def reserve(self, *, least: int, most: int) -> Reservation | Refusal:
        assert least >= 0, least
        assert most >= 0, most
        with self._database.writing() as db:
            demand_held(db, self._lease)
            amount = _affordable(db, least, most)
            if amount is None:
                return Refusal(limit="batch.cost_usd")
            row = db.execute(
                "INSERT INTO money (job, attempt, fence, state, reserved) VALUES (?, ?, ?, 'reserved', ?)",
                (self._lease.job.number, self._lease.job.attempt, self._lease.fence, amount),
            )
            _change_purse(db, reserved=amount)
            assert row.lastrowid is not None
            return Reservation(id=row.lastrowid, micro_usd=amount)

    def settle(self, reservation: Reservation, *, spent: int, doubtful: int = 0) -> None:
        assert spent >= 0, spent
        assert doubtful >= 0, doubtful
        with self._database.writing() as db:
            settled = db.execute(
                "UPDATE money SET state = 'settled', spent = ?, doubtful = ? WHERE id = ? AND state = 'reserved'",
                (spent, doubtful, reservation.id),
            )
            if settled.rowcount:
                _change_purse(db, reserved=-reservation.micro_usd, spent=spent, doubtful=doubtful)


def demand_held(db: sqlite3.Connection, lease: Lease) -> State:
    """Returns the job's state. Raises Fenced unless the lease is its last one, and it neither waits nor has ended.

    That the lease's time is over does not matter as long as nobody else has taken the job.
    """
    job: tuple[State] | None = db.execute(
        "SELECT state FROM jobs WHERE number = ? AND fence = ? AND owner <> ''", (lease.job.number, lease.fence)
    ).fetchone()
    if job is None:
        raise Fenced(f"job {lease.job.planned.id!r}: its lease {lease.fence} is lost: somebody has it, or it has ended")
    return job[0]


def recover(db: sqlite3.Connection, lease: Lease, *, spent: int, doubtful: int, whole: bool) -> None:
    """Bring the sums of a job to what its earlier attempts prove, and free what they had set aside.

    Not `whole`: what they wrote is gone, in part at least. Then what is known here stays, and what was set aside is
    doubtful. Rows that are settled are never changed: the difference is a row of its own, which may be negative.
    """
    job, held = lease.job.number, _sums(db, lease.job.number)
    if not whole:
        spent, doubtful = max(spent, held.spent), max(doubtful, held.doubtful) + held.reserved
    db.execute("UPDATE money SET state = 'recovered' WHERE job = ? AND state = 'reserved'", (job,))
    more = _Sums(reserved=-held.reserved, spent=spent - held.spent, doubtful=doubtful - held.doubtful)
    if more.spent or more.doubtful:
        db.execute(
            "INSERT INTO money (job, attempt, fence, state, spent, doubtful) VALUES (?, ?, ?, 'recovered', ?, ?)",
            (job, lease.job.attempt, lease.fence, more.spent, more.doubtful),
        )
    _change_purse(db, reserved=more.reserved, spent=more.spent, doubtful=more.doubtful)


def give_up(db: sqlite3.Connection, job: int) -> None:
    """Nobody will find out any more what the job's open requests cost: all that was set aside for them is doubtful."""
    if reserved := _sums(db, job).reserved:
        db.execute(
            "UPDATE money SET state = 'given_up', doubtful = reserved WHERE job = ? AND state = 'reserved'", (job,)
        )
        _change_purse(db, reserved=-reserved, doubtful=reserved)


def _affordable(db: sqlite3.Connection, least: int, most: int) -> int | None:
    (left,) = db.execute("SELECT cap - reserved - spent - doubtful FROM purse").fetchone()
    if left is None or left >= most:
        return most
    return int(left) if left >= least else None


def _change_purse(db: sqlite3.Connection, *, reserved: int, spent: int = 0, doubtful: int = 0) -> None:
    db.execute(
        "UPDATE purse SET reserved = reserved + ?, spent = spent + ?, doubtful = doubtful + ?",
        (reserved, spent, doubtful),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sums:
    reserved: int
    """Of requests that may be under way."""
    spent: int
    doubtful: int


def _sums(db: sqlite3.Connection, job: int) -> _Sums:
    reserved, spent, doubtful = db.execute(
        "SELECT coalesce(sum(reserved) FILTER (WHERE state = 'reserved'), 0), coalesce(sum(spent), 0),"
        " coalesce(sum(doubtful), 0) FROM money WHERE job = ?",
        (job,),
    ).fetchone()
    return _Sums(reserved=reserved, spent=spent, doubtful=doubtful)
