from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.batch.patience import Patience, PatientLedger
from runner.errors import Cancelled
from runner.ledger import Refusal, Reservation

SOON = 60


class Purse:
    """A ledger in memory. `asked` is set when something was refused."""

    def __init__(self, cap: int) -> None:
        self.left = cap
        self.asked = threading.Event()
        self._open: dict[int, int] = {}
        self._count = 0

    def reserve(self, *, least: int, most: int) -> Reservation | Refusal:
        amount = min(most, self.left)
        if amount < least:
            self.asked.set()
            return Refusal(limit="batch.cost_usd")
        self.left -= amount
        self._count += 1
        self._open[self._count] = amount
        return Reservation(id=self._count, micro_usd=amount)

    def settle(self, reservation: Reservation, *, spent: int, doubtful: int = 0) -> None:
        self.left += self._open.pop(reservation.id, spent + doubtful) - spent - doubtful


class Job:
    """One of those who share a purse."""

    def __init__(self, patience: Patience, purse: Purse) -> None:
        self.refused = 0
        self.told_to_leave = False
        self.ledger: PatientLedger = patience.ledger(
            purse, is_to_leave=lambda: self.told_to_leave, on_refusal=self._refuse
        )

    def _refuse(self) -> None:
        self.refused += 1

    def reserve(self, *, least: int, most: int) -> Reservation:
        answer = self.ledger.reserve(least=least, most=most)
        assert isinstance(answer, Reservation)
        return answer


def test_money_that_another_job_has_set_aside_is_waited_for() -> None:
    patience, purse = Patience(), Purse(100)
    first, second = Job(patience, purse), Job(patience, purse)
    held = first.reserve(least=10, most=90)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.reserve, least=10, most=90)
        assert purse.asked.wait(SOON)
        first.ledger.settle(held, spent=2)
        assert waiting.result(SOON).micro_usd == 90
    assert second.refused == 0


def test_nobody_is_cut_short_while_more_may_come_back() -> None:
    patience, purse = Patience(), Purse(100)
    first, second = Job(patience, purse), Job(patience, purse)
    held = first.reserve(least=10, most=60)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.reserve, least=10, most=60)
        assert purse.asked.wait(SOON)
        first.ledger.settle(held, spent=60)
        assert waiting.result(SOON).micro_usd == 40


def test_what_cannot_be_paid_is_refused_when_nothing_is_set_aside() -> None:
    job = Job(Patience(), Purse(5))
    assert job.ledger.reserve(least=10, most=90) == Refusal(limit="batch.cost_usd")
    assert job.refused == 1


def test_a_job_that_breaks_off_keeps_nobody_waiting() -> None:
    patience, purse = Patience(), Purse(100)
    first, second = Job(patience, purse), Job(patience, purse)
    first.reserve(least=10, most=95)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.ledger.reserve, least=10, most=90)
        assert purse.asked.wait(SOON)
        first.ledger.close()
        assert waiting.result(SOON) == Refusal(limit="batch.cost_usd")


def test_who_waits_leaves_when_told_to() -> None:
    patience, purse = Patience(), Purse(100)
    first, second = Job(patience, purse), Job(patience, purse)
    first.reserve(least=10, most=95)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.ledger.reserve, least=10, most=90)
        assert purse.asked.wait(SOON)
        second.told_to_leave = True
        patience.look_again()
        with pytest.raises(Cancelled):
            waiting.result(SOON)


def test_settling_twice_lets_nobody_in_too_early() -> None:
    patience, purse = Patience(), Purse(1000)
    first, second = Job(patience, purse), Job(patience, purse)
    held = first.reserve(least=10, most=90)
    first.ledger.settle(held, spent=0)
    first.reserve(least=10, most=1000)
    first.ledger.settle(held, spent=0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.ledger.reserve, least=10, most=90)
        assert purse.asked.wait(SOON)
        assert not waiting.done()
        first.ledger.close()
        assert waiting.result(SOON) == Refusal(limit="batch.cost_usd")
