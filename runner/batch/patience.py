"""Jobs of one runner that wait for each other's money instead of being refused it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runner.errors import Cancelled
from runner.ledger import Ledger, Refusal, Reservation


class Patience:
    """What the jobs of one runner have set aside at the moment.

    Before each request its worst case is set aside, which is many times what most replies cost. So when little is left
    of a cap, it may all be set aside for requests that other jobs wait for: most of it comes back in seconds. Only what
    is refused, or would have to be cut short, while nothing is set aside here really cannot be paid.
    """

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._open: set[int] = set()

    def ledger(
        self, beneath: Ledger, *, is_to_leave: Callable[[], bool], on_refusal: Callable[[], None]
    ) -> PatientLedger:
        """For one attempt. It is asked whether it is to leave while it waits; and told when it is refused money."""
        return PatientLedger(beneath, self._news, self._open, is_to_leave, on_refusal)

    def look_again(self) -> None:
        """Something happened that those who wait may have to leave for."""
        with self._news:
            self._news.notify_all()


class PatientLedger:
    """A `runner.ledger.Ledger` for one attempt. To be closed when the attempt has ended, however it did."""

    def __init__(
        self,
        beneath: Ledger,
        news: threading.Condition,
        open: set[int],
        is_to_leave: Callable[[], bool],
        on_refusal: Callable[[], None],
    ) -> None:
        self._beneath = beneath
        self._news = news
        self._open = open
        self._mine: set[int] = set()
        self._is_to_leave = is_to_leave
        self._on_refusal = on_refusal

    def reserve(self, *, least: int, most: int) -> Reservation | Refusal:
        """Raises Cancelled when the attempt is to be left half-way while it waits."""
        with self._news:
            while self._open:
                answer = self._beneath.reserve(least=most, most=most)
                if isinstance(answer, Reservation):
                    return self._noted(answer)
                if self._is_to_leave():
                    raise Cancelled
                self._news.wait()
            answer = self._beneath.reserve(least=least, most=most)
            if isinstance(answer, Reservation):
                return self._noted(answer)
            self._on_refusal()
            return answer

    def settle(self, reservation: Reservation, *, spent: int, doubtful: int = 0) -> None:
        self._beneath.settle(reservation, spent=spent, doubtful=doubtful)
        self._forget({reservation.id})

    def close(self) -> None:
        """What a job left open that broke off keeps nobody waiting."""
        self._forget(self._mine)

    def _noted(self, reservation: Reservation) -> Reservation:
        self._open.add(reservation.id)
        self._mine.add(reservation.id)
        return reservation

    def _forget(self, ids: set[int]) -> None:
        with self._news:
            self._open -= ids
            self._mine -= ids
            self._news.notify_all()
