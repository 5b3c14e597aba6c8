"""How far a batch is, over all runners that work on it: states, outcomes, money, pace."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Self

from runner.batch.base import BatchSpec, Counts, State, Totals
from runner.batch.store import Store
from runner.ledger import MICRO

UNDER_WAY: tuple[State, ...] = ("leased", "running", "checking")
QUEUED: tuple[State, ...] = ("queued",)
ENDED: tuple[State, ...] = ("ended",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    counts: Counts
    totals: Totals
    cap: int | None
    """In micro-USD."""

    @classmethod
    def of(cls, spec: BatchSpec, counts: Counts, totals: Totals) -> Self:
        cap = spec.limits.cost_usd
        return cls(counts=counts, totals=totals, cap=None if cap is None else round(cap * MICRO))

    @property
    def jobs(self) -> int:
        return self.counts.jobs

    @property
    def ended(self) -> int:
        return self.counts.states.get("ended", 0)

    @property
    def queued(self) -> int:
        return self.counts.states.get("queued", 0)

    @property
    def working(self) -> int:
        """Or left half-way by a runner that died."""
        return self.jobs - self.ended - self.queued


def standing(store: Store) -> Standing:
    return Standing.of(store.spec, store.counts(), store.totals())


WINDOW_SECONDS = 600.0
"""Over which the pace is measured: what was long ago says little of what comes."""
_MOST_LOOKS = 700


class Pace:
    """Jobs per minute, and how long the rest will take, from looks at how many have ended."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque(maxlen=_MOST_LOOKS)

    def note(self, ended: int, now: float) -> None:
        """`now` in seconds of any clock, the same each time."""
        self._looks.append((now, ended))
        while now - self._looks[0][0] > WINDOW_SECONDS:
            self._looks.popleft()

    def per_minute(self) -> float | None:
        """None: not known yet."""
        if not self._looks:
            return None
        (began, before), (now, ended) = self._looks[0], self._looks[-1]
        return (ended - before) / (now - began) * 60 if now > began and ended > before else None

    def seconds_for(self, jobs: int) -> float | None:
        rate = self.per_minute()
        return jobs / rate * 60 if rate else None
