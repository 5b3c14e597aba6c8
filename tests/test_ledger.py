"""Money set aside and settled: nothing is ever spent that a cap does not have."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.ledger import JobLedger, Ledger, Refusal, Reservation, Unlimited, in_usd, micro_usd


def usd(micro: int) -> Decimal:
    return Decimal(micro) / 1_000_000


def reserve(ledger: Ledger, most: int, least: int = 1) -> Reservation:
    reserved = ledger.reserve(least=least, most=most)
    assert isinstance(reserved, Reservation)
    return reserved


def test_costs_are_rounded_up_and_caps_down() -> None:
    assert micro_usd(Decimal("0.0000011")) == 2
    assert in_usd(2) == Decimal("0.000002")
    ledger = JobLedger(Decimal("0.0000019"))
    assert reserve(ledger, 5).micro_usd == 1


def test_what_is_left_is_given_if_it_is_enough() -> None:
    ledger = JobLedger(usd(100))
    assert reserve(ledger, 70).micro_usd == 70
    assert reserve(ledger, 70, least=30).micro_usd == 30
    assert ledger.reserve(least=1, most=1) == Refusal(limit="limits.cost_usd")


def test_a_reservation_that_is_settled_frees_what_was_not_spent() -> None:
    ledger = JobLedger(usd(100))
    ledger.settle(reserve(ledger, 100), spent=40, doubtful=20)
    assert (ledger.spent, ledger.doubtful, ledger.reserved) == (40, 20, 0)
    assert reserve(ledger, 100).micro_usd == 40


def test_to_settle_twice_changes_nothing() -> None:
    above = JobLedger(None)
    ledger = JobLedger(None, above=above)
    one = reserve(ledger, 50)
    for spent in (10, 50):
        ledger.settle(one, spent=spent)
    assert (ledger.spent, above.spent) == (10, 10)


def test_what_earlier_attempts_cost_counts_against_the_job_s_cap() -> None:
    ledger = JobLedger(usd(100), spent=50, doubtful=20)
    assert reserve(ledger, 100).micro_usd == 30


@pytest.mark.parametrize(("job", "batch", "limit"), [(10, 100, "limits.cost_usd"), (100, 10, "batch.cost_usd")])
def test_what_one_cap_refuses_neither_sets_aside(job: int, batch: int, limit: str) -> None:
    above = JobLedger(usd(batch), limit="batch.cost_usd")
    ledger = JobLedger(usd(job), above=above)
    refusal = ledger.reserve(least=50, most=60)
    assert isinstance(refusal, Refusal)
    assert refusal.limit == limit
    assert (ledger.reserved, above.reserved) == (0, 0)


@pytest.mark.parametrize(("job", "batch"), [(30, 100), (100, 30)])
def test_the_tighter_cap_says_how_much(job: int, batch: int) -> None:
    above = JobLedger(usd(batch))
    ledger = JobLedger(usd(job), above=above)
    one = reserve(ledger, 60)
    assert (one.micro_usd, ledger.reserved, above.reserved) == (30, 30, 30)
    ledger.settle(one, spent=5)
    assert (ledger.spent, above.spent, ledger.reserved, above.reserved) == (5, 5, 0, 0)


def test_a_ledger_above_that_breaks_leaves_nothing_set_aside() -> None:
    class Broken(Unlimited):
        def reserve(self, *, least: int, most: int) -> Reservation:
            raise OSError("the disk is full")

    ledger = JobLedger(usd(100), above=Broken())
    with pytest.raises(OSError, match="disk"):
        ledger.reserve(least=1, most=100)
    assert ledger.reserved == 0


def test_without_a_cap_everything_is_counted_and_nothing_refused() -> None:
    ledger = JobLedger(None, above=Unlimited())
    ledger.settle(reserve(ledger, 10**12), spent=10**12)
    assert ledger.spent == 10**12


amounts = st.tuples(st.integers(0, 400), st.integers(0, 400), st.floats(0, 1), st.floats(0, 1), st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    cap=st.integers(0, 1000),
    caps=st.lists(st.none() | st.integers(0, 600), min_size=1, max_size=5),
    requests=st.lists(amounts, min_size=1, max_size=12),
)
def test_no_cap_is_exceeded_by_jobs_that_share_a_ledger_and_die_anywhere(
    cap: int, caps: list[int | None], requests: list[tuple[int, int, float, float, bool]]
) -> None:
    batch = JobLedger(usd(cap), limit="batch.cost_usd")
    jobs = [JobLedger(None if own is None else usd(own), above=batch) for own in caps]
    exceeded: list[int] = []

    def work(job: JobLedger) -> None:
        for least, more, known, doubt, killed in requests:
            one = job.reserve(least=least, most=least + more)
            taken = batch.spent + batch.doubtful + batch.reserved
            if taken > cap:
                exceeded.append(taken)
            if isinstance(one, Reservation) and not killed:
                spent = int(one.micro_usd * known)
                job.settle(one, spent=spent, doubtful=int((one.micro_usd - spent) * doubt))

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exceeded == []
    assert batch.spent + batch.doubtful + batch.reserved <= cap
    assert batch.spent == sum(job.spent for job in jobs)
    assert batch.reserved == sum(job.reserved for job in jobs)
    for job, own in zip(jobs, caps, strict=True):
        assert own is None or job.spent + job.doubtful + job.reserved <= own
