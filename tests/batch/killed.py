"""Kills processes with SIGKILL while they work on a batch, and looks at what they leave behind.

Run by the tests as a process of its own, `python -m tests.batch.killed WHAT FOLDER SEED`: it has one thread, so it may
fork, and what it needs is imported once.
"""

from __future__ import annotations

import os
import random
import signal as signals
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from runner.batch.base import Fenced
from runner.batch.store import FILE, Store
from runner.errors import ConfigError
from runner.ledger import Refusal
from runner.sandbox import owner
from tests.batch.stored import EVER, SOLVED, planned, spec

CAP = 50_000
"""Micro-USD."""
JOBS = 60


def start(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def kill_after(pid: int, seconds: float) -> bool:
    """Whether it was still at work. Raises when it had failed."""
    time.sleep(seconds)
    os.kill(pid, signals.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


def append(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode() + b"\n")
    os.close(handle)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# --- a batch that is killed while it is made


def creation(folder: Path, chance: random.Random) -> None:
    unmade = 0
    for turn in range(40):
        batch = folder / str(turn)
        kill_after(start(partial(_create, batch)), chance.uniform(0, 0.04))
        try:
            store = Store.open(batch)
        except ConfigError:
            unmade += 1
            store = _create(batch)
        with store:
            assert store.counts().states == {"queued": 300}
        assert [path.name for path in batch.iterdir()] == [FILE]
    print(f"{unmade} not made")


def _create(folder: Path) -> Store:
    return Store.create(folder, spec(), (planned(number) for number in range(300)))


# --- a runner that is killed while it spends


def spending(folder: Path, chance: random.Random) -> None:
    """`bill` is what the provider would send: a line is written when a request arrives there."""
    bill = folder / "bill"
    with Store.create(folder, spec(cost_usd=CAP / 1e6), [planned(1)]):
        pass
    kills = 0
    for seed in range(60):
        kills += kill_after(start(partial(_spend, folder, bill, seed)), chance.uniform(0.005, 0.04))
        billed = sum(map(int, lines(bill)))
        with Store.open(folder) as store:
            found = store.totals()
            assert found.spent <= billed <= found.spent + found.reserved, (found, billed)
            assert found.spent + found.reserved <= CAP
            lease = store.lease(owner.mine(), seconds=EVER)
            assert lease is not None
            store.recover(lease, spent=billed, doubtful=0)
            found = store.totals()
            assert (found.spent, found.doubtful, found.reserved) == (billed, 0, 0), (found, billed)
            store.release(lease)
    print(f"{kills} kills, {billed} of {CAP} spent")


def _spend(folder: Path, bill: Path, seed: int) -> None:
    chance = random.Random(seed)
    with Store.open(folder) as store:
        lease = store.lease(owner.mine(), seconds=EVER)
        assert lease is not None
        ledger = store.ledger(lease)
        while not isinstance(money := ledger.reserve(least=1, most=chance.randint(1, 40)), Refusal):
            spent = chance.randint(1, money.micro_usd)
            append(bill, str(spent))
            ledger.settle(money, spent=spent)


# --- runners that are killed while others work on the same batch


def working(folder: Path, chance: random.Random) -> None:
    """`log` gets a line after each job that a runner was told it had ended."""
    with Store.create(folder, spec(), (planned(number) for number in range(JOBS))):
        pass
    log, kills = folder / "log", 0
    steady = start(partial(_work, folder, log, 0))
    for seed in range(1, 30):
        kills += kill_after(start(partial(_work, folder, log, seed)), chance.uniform(0.005, 0.04))
    assert os.waitpid(steady, 0)[1] == 0
    with Store.open(folder) as store:
        assert store.counts().states == {"ended": JOBS}
        assert store.runners() == []
        assert {row.tries for row in store.jobs()} == {0}
        assert {row.ended for row in store.jobs()} == {SOLVED}
    told = lines(log)
    assert len(told) == len(set(told)), "a job ended twice"
    # Only who was killed between the end of a job and its line did not write it.
    assert JOBS - kills <= len(told) <= JOBS
    print(f"{kills} kills")


def _work(folder: Path, log: Path, seed: int) -> None:
    chance = random.Random(seed)
    with Store.open(folder) as store:
        while store.next_at() is not None:
            lease = store.lease(owner.mine(), seconds=EVER)
            time.sleep(chance.uniform(0, 0.02))
            if lease is None:
                continue
            store.advance(lease, "running")
            store.renew(lease, seconds=EVER)
            store.advance(lease, "checking")
            if lease.job.attempt == 1 and chance.random() < 0.2:
                store.release(lease)
                continue
            store.end(lease, SOLVED)
            append(log, lease.job.planned.id)
            try:
                store.end(lease, SOLVED)
                raise AssertionError("a job could be ended twice")
            except Fenced:
                pass


if __name__ == "__main__":
    _, what, where, number = sys.argv
    {"creation": creation, "spending": spending, "working": working}[what](Path(where), random.Random(int(number)))
