from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.batch.base import Fenced, Lease, Limits
from runner.batch.ledger import BatchLedger, cap_micro_usd
from runner.batch.store import Store
from runner.ledger import MICRO, Refusal, Reservation
from tests.batch.stored import EVER, LOST, SOLVED, Clock, make, take


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with make(tmp_path / "b", cost_usd=0.001) as store:
        yield store


def reserve(ledger: BatchLedger, most: int, least: int | None = None) -> Reservation:
    money = ledger.reserve(least=most if least is None else least, most=most)
    assert isinstance(money, Reservation)
    return money


def sums(store: Store) -> tuple[int, int, int]:
    """Spent, doubtful, reserved."""
    totals = store.totals()
    return totals.spent, totals.doubtful, totals.reserved


def test_what_is_set_aside_is_not_there_for_others(store: Store) -> None:
    one, other = store.ledger(take(store)), store.ledger(take(store))
    reserve(one, 700)
    assert other.reserve(least=301, most=400) == Refusal(limit="batch.cost_usd")
    assert reserve(other, most=400, least=300).micro_usd == 300
    assert one.reserve(least=1, most=1) == Refusal(limit="batch.cost_usd")
    assert sums(store) == (0, 0, 1000)


def test_what_was_not_spent_is_free_again(store: Store) -> None:
    ledger = store.ledger(take(store))
    ledger.settle(reserve(ledger, 1000), spent=100)
    assert sums(store) == (100, 0, 0)
    assert reserve(ledger, most=1000, least=0).micro_usd == 900


def test_what_is_doubtful_counts_against_the_cap_and_is_not_spent(store: Store) -> None:
    ledger = store.ledger(take(store))
    ledger.settle(reserve(ledger, 1000), spent=100, doubtful=600)
    assert sums(store) == (100, 600, 0)
    assert reserve(ledger, most=1000, least=0).micro_usd == 300


def test_to_settle_twice_changes_nothing(store: Store) -> None:
    ledger = store.ledger(take(store))
    money = reserve(ledger, 500)
    ledger.settle(money, spent=100)
    ledger.settle(money, spent=400, doubtful=100)
    assert sums(store) == (100, 0, 0)


def test_without_a_cap_all_is_granted_and_counted(tmp_path: Path) -> None:
    with make(tmp_path / "b") as store:
        ledger = store.ledger(take(store))
        ledger.settle(reserve(ledger, 10**15), spent=10**14)
        assert sums(store) == (10**14, 0, 0)


def test_a_cap_of_nothing_refuses_everything(tmp_path: Path) -> None:
    with make(tmp_path / "b", cost_usd=0.0) as store:
        assert store.ledger(take(store)).reserve(least=1, most=10) == Refusal(limit="batch.cost_usd")


def test_a_changed_cap_holds_at_once_for_every_runner(store: Store) -> None:
    with Store.open(store.folder) as other:
        ledger = other.ledger(take(other))
        ledger.settle(reserve(ledger, 1000), spent=1000)
        store.change_limits(Limits(cost_usd=0.0015))
        assert reserve(ledger, most=900, least=1).micro_usd == 500
        store.change_limits(Limits(cost_usd=0.0001))
        assert ledger.reserve(least=0, most=1) == Refusal(limit="batch.cost_usd")
        store.change_limits(Limits())
        assert reserve(ledger, 10**9).micro_usd == 10**9


@pytest.mark.parametrize(
    ("cost_usd", "cap"),
    [(None, None), (0.0, 0), (2.0, 2_000_000), (0.1, 100_000), (1.0000019, 1_000_001), (4.35, 4_350_000)],
)
def test_the_cap_is_what_a_person_wrote_never_more(cost_usd: float | None, cap: int | None) -> None:
    assert cap_micro_usd(cost_usd) == cap


# --- attempts that do not come to an end


def test_who_lost_the_lease_may_settle_but_not_reserve(store: Store) -> None:
    lease = take(store)
    ledger = store.ledger(lease)
    money = reserve(ledger, 500)
    store.release(lease)
    with pytest.raises(Fenced):
        ledger.reserve(least=1, most=1)
    ledger.settle(money, spent=200)
    assert sums(store) == (200, 0, 0)


def test_an_attempt_that_died_holds_what_it_set_aside_until_the_next_one_knows(store: Store) -> None:
    lease = take(store)
    ledger = store.ledger(lease)
    ledger.settle(reserve(ledger, 300), spent=100, doubtful=50)
    open_ = reserve(ledger, 400)
    store.release(lease)
    assert sums(store) == (100, 50, 400)
    again = take(store)
    store.recover(again, spent=250, doubtful=20)
    assert sums(store) == (250, 20, 0)
    ledger.settle(open_, spent=400)
    assert sums(store) == (250, 20, 0)


def test_recovery_touches_no_other_job(store: Store) -> None:
    first, other = take(store), take(store)
    reserve(store.ledger(other), 300)
    reserve(store.ledger(first), 300)
    store.requeue(first, LOST, not_before=0)
    store.recover(take(store), spent=1, doubtful=2)
    assert sums(store) == (1, 2, 300)


def test_to_recover_twice_is_to_recover_once(store: Store) -> None:
    store.release(take(store))
    lease = take(store)
    for spent in (300, 300, 200):
        store.recover(lease, spent=spent, doubtful=5)
        assert sums(store) == (spent, 5, 0)


def test_what_cannot_be_proven_any_more_is_not_forgotten(store: Store) -> None:
    """Somebody removed the job's folder."""
    lease = take(store)
    ledger = store.ledger(lease)
    ledger.settle(reserve(ledger, 200), spent=100, doubtful=50)
    reserve(ledger, 300)
    store.release(lease)
    for _ in range(2):
        again = take(store)
        store.recover(again, spent=0, doubtful=0, whole=False)
        assert sums(store) == (100, 350, 0)
        store.release(again)


def test_what_is_open_when_a_job_ends_is_doubtful(store: Store) -> None:
    lease = take(store)
    ledger = store.ledger(lease)
    reserve(ledger, 300)
    reserve(ledger, 30)
    ledger.settle(reserve(ledger, 200), spent=10)
    store.end(lease, SOLVED)
    assert sums(store) == (10, 330, 0)


# --- the cap holds


def test_the_cap_holds_however_many_spend_at_once(tmp_path: Path) -> None:
    """Eight threads over two stores, as two processes would have them, and one that looks."""
    cap, clock, over = 40_000, Clock(), threading.Event()
    with (
        make(tmp_path / "b", 8, clock=clock, cost_usd=cap / MICRO) as store,
        Store.open(store.folder, clock=clock) as second,
    ):
        billed, seen = [0] * 8, []

        def spend(number: int) -> None:
            chance, mine = random.Random(number), (store, second)[number % 2]
            ledger = mine.ledger(take(mine))
            while isinstance(money := ledger.reserve(least=1, most=chance.randint(1, 300)), Reservation):
                spent = chance.randint(0, money.micro_usd)
                doubtful = chance.choice([0, money.micro_usd - spent])
                billed[number] += spent + doubtful
                ledger.settle(money, spent=spent, doubtful=doubtful)

        def look() -> None:
            while not over.is_set():
                seen.append(sum(sums(store)))

        with ThreadPoolExecutor(9) as threads:
            spending = [threads.submit(spend, number) for number in range(8)]
            looking = threads.submit(look)
            try:
                for done in spending:
                    done.result(timeout=300)
            finally:
                over.set()
            looking.result(timeout=300)
        assert max(seen) <= cap
        spent, doubtful, reserved = sums(store)
        assert (spent + doubtful, reserved) == (sum(billed), 0)
        # All of it was there for somebody: the last reservation was refused because nothing was left.
        assert sum(billed) == cap


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cap=st.integers(0, 3_000),
    requests=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 1_000), st.floats(0, 1)), max_size=12),
)
def test_the_cap_holds_at_any_price(cap: int, requests: list[tuple[int, int, float]]) -> None:
    """Each in a thread of its own, all of them racing."""
    with tempfile.TemporaryDirectory() as folder, make(Path(folder) / "b", cost_usd=cap / MICRO) as store:
        ledger, barrier = store.ledger(take(store)), threading.Barrier(max(1, len(requests)))

        def request(least: int, more: int, share: float) -> int:
            barrier.wait(timeout=300)
            money = ledger.reserve(least=least, most=least + more)
            if isinstance(money, Refusal):
                return 0
            assert least <= money.micro_usd <= least + more
            spent = int(money.micro_usd * share)
            ledger.settle(money, spent=spent, doubtful=money.micro_usd - spent)
            return money.micro_usd

        with ThreadPoolExecutor(max(1, len(requests))) as threads:
            costs = [done.result() for done in [threads.submit(request, *each) for each in requests]]
        assert sum(costs) <= cap
        spent, doubtful, reserved = sums(store)
        assert (spent + doubtful, reserved) == (sum(costs), 0)


CAP = 1_000


@dataclass
class Request:
    """One that was sent."""

    lease: Lease
    money: Reservation
    billed: int
    """By the provider."""
    proven: tuple[int, int] | None = None
    """What we know that it cost: spent, and doubtful besides. None while it is under way."""


class Spending(RuleBasedStateMachine):
    """Three jobs whose attempts spend, die, are recovered and end; answers come late, or after all is over."""

    @initialize()
    def make(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = make(Path(self.folder.name) / "b", 3, cost_usd=CAP / MICRO)
        self.leases: dict[int, Lease] = {}
        self.requests: list[Request] = []

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def under_way(self, job: int) -> list[Request]:
        return [request for request in self.of(job) if request.proven is None]

    def of(self, job: int) -> list[Request]:
        return [request for request in self.requests if request.lease.job.number == job]

    @rule(found=st.booleans())
    def begin(self, found: bool) -> None:
        """An attempt that follows another begins with what was paid: the last replies are found, or they are not."""
        lease = self.store.lease("a", seconds=EVER)
        if lease is None:
            return
        job = lease.job.number
        self.leases[job] = lease
        if lease.job.attempt == 1:
            return
        for request in self.under_way(job):
            request.proven = (request.billed, 0) if found else (0, request.money.micro_usd)
        proven = [request.proven or (0, 0) for request in self.of(job)]
        self.store.recover(lease, spent=sum(spent for spent, _ in proven), doubtful=sum(more for _, more in proven))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), least=st.integers(0, 200), more=st.integers(0, 300), share=st.floats(0, 1))
    def send(self, data: st.DataObject, least: int, more: int, share: float) -> None:
        lease = data.draw(st.sampled_from(list(self.leases.values())))
        left = CAP - sum(sums(self.store))
        money = self.store.ledger(lease).reserve(least=least, most=least + more)
        if isinstance(money, Refusal):
            assert left < least
            return
        assert money.micro_usd == min(left, least + more)
        self.requests.append(Request(lease, money, int(money.micro_usd * share)))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), cut=st.booleans())
    def answer(self, data: st.DataObject, cut: bool) -> None:
        """Whole or cut off, in time or too late, once or again."""
        request = data.draw(st.sampled_from(self.requests))
        half = request.billed // 2
        spent, doubtful = (half, request.money.micro_usd - half) if cut else (request.billed, 0)
        self.store.ledger(request.lease).settle(request.money, spent=spent, doubtful=doubtful)
        if request.proven is None:
            request.proven = (spent, doubtful)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.leases)))
        self.store.release(self.leases.pop(job))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(list(self.leases)))
        self.store.end(self.leases.pop(job), SOLVED)
        for request in self.under_way(job):
            request.proven = (0, request.money.micro_usd)

    @rule()
    def again(self) -> None:
        self.store.again(["solved"], fresh=True)

    @invariant()
    def the_ledger_has_what_is_proven(self) -> None:
        proven = [request.proven for request in self.requests if request.proven]
        reserved = sum(request.money.micro_usd for request in self.requests if request.proven is None)
        expected = (sum(spent for spent, _ in proven), sum(doubtful for _, doubtful in proven), reserved)
        assert sums(self.store) == expected

    @invariant()
    def the_bill_lies_within(self) -> None:
        spent, doubtful, reserved = sums(self.store)
        billed = sum(request.billed for request in self.requests)
        assert spent <= billed <= spent + doubtful + reserved <= CAP


TestSpending = Spending.TestCase
TestSpending.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_runner_that_is_killed_at_any_point_leaves_a_ledger_that_covers_the_bill(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.batch.killed", "spending", tmp_path, "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
