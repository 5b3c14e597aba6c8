"""What may be spent, in whole micro-USD: set aside before each request, settled after it, wherever there is a cap."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import count
from typing import Literal, Protocol

MICRO = 1_000_000
"""Micro-USD in a US dollar; and a price of so many USD per million tokens is as many micro-USD per token."""

CapName = Literal["limits.cost_usd", "batch.cost_usd"]
"""The job's own cap, and the batch's."""


def micro_usd(usd: Decimal) -> int:
    """The cost of one request, in whole micro-USD, rounded up."""
    return int((usd * MICRO).to_integral_value(rounding=ROUND_CEILING))


def in_usd(micro: int) -> Decimal:
    return Decimal(micro) / MICRO


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Money set aside for one request that is about to be sent."""

    id: int
    micro_usd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """There is not so much left."""

    limit: CapName
    """Whose cap it is."""


class Ledger(Protocol):
    """Counts what is spent against a cap. Spent and set aside together never exceed it. Thread-safe."""

    def reserve(self, *, least: int, most: int) -> Reservation | Refusal:
        """Set aside `most` micro-USD, or what is left if that is not less than `least`."""
        ...

    def settle(self, reservation: Reservation, *, spent: int, doubtful: int = 0) -> None:
        """The request has ended: it cost `spent`, and perhaps `doubtful` more; the rest is free again.

        What is doubtful counts against the cap and is not reported as spent. To settle twice changes nothing.
        """
        ...


class Unlimited:
    """A Ledger without a cap, which counts nothing."""

    def reserve(self, *, least: int, most: int) -> Reservation:
        return Reservation(id=0, micro_usd=most)

    def settle(self, reservation: Reservation, *, spent: int, doubtful: int = 0) -> None:
        pass


class JobLedger:
    """The cap of one job, in memory, within the ledger above it: what one of them refuses, neither sets aside."""

    def __init__(
        self,
        cap: Decimal | None,
        *,
        above: Ledger | None = None,
        spent: int = 0,
        doubtful: int = 0,
        limit: CapName = "limits.cost_usd",
    ) -> None:
        """`cap` is in US dollars, None: there is none here. `spent` and `doubtful` are what earlier attempts at the
        job cost, in micro-USD: the ledger above knows of them already."""
        # Rounded down: what a person wrote is never exceeded.
        self._cap = None if cap is None else int((cap * MICRO).to_integral_value(rounding=ROUND_FLOOR))
        self._above = above or Unlimited()
        self._limit: CapName = limit
        self._spent, self._doubtful, self._reserved = spent, doubtful, 0
        self._open: dict[int, tuple[Reservation, Reservation]] = {}
        """What is set aside: by id, here and above."""
        self._ids = count(1)
        self._lock = threading.Lock()

    @property
    def spent(self) -> int:
        """Micro-USD that the job is known to have cost."""
        return self._spent

    @property
    def doubtful(self) -> int:
        """Micro-USD that it may have cost besides."""
        return self._doubtful

    @property
    def reserved(self) -> int:
        """Micro-USD set aside for requests under way."""
        return self._reserved

    def reserve(self, *, least: int, most: int) -> Reservation | Refusal:
        here = self._set_aside(least, most)
        if here is None:
            return Refusal(limit=self._limit)
        # Without the lock: the ledger above may wait until other requests are settled.
        try:
            above = self._above.reserve(least=least, most=here)
        except BaseException:
            self._give_back(here)
            raise
        if isinstance(above, Refusal):
            self._give_back(here)
            return above
        self._give_back(here - above.micro_usd)
        reserved = Reservation(id=next(self._ids), micro_usd=above.micro_usd)
        self._open[reserved.id] = (reserved, above)
        return reserved

    def settle(self, reservation: Reservation, *, spent: int, doubtful: int = 0) -> None:
        with self._lock:
            here, above = self._open.pop(reservation.id, (None, None))
            if here is None or above is None:
                return
            self._reserved -= here.micro_usd
            self._spent += spent
            self._doubtful += doubtful
        self._above.settle(above, spent=spent, doubtful=doubtful)

    def _set_aside(self, least: int, most: int) -> int | None:
        with self._lock:
            if self._cap is not None:
                most = min(most, self._cap - self._spent - self._doubtful - self._reserved)
            if most < least:
                return None
            self._reserved += most
            return most

    def _give_back(self, micro: int) -> None:
        with self._lock:
            self._reserved -= micro
