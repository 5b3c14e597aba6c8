"""How many jobs may begin in a minute: a bucket that fills at a steady rate and holds a little in store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Bucket:
    """`per_minute` may be taken in a minute, `burst` of them at once after a rest. Thread-safe. None: any number."""

    def __init__(
        self, per_minute: float | None, *, burst: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        assert per_minute is None or per_minute > 0
        assert burst >= 1
        self._per_second = per_minute / 60 if per_minute is not None else None
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._held = float(burst)
        self._filled_at = clock()

    def wait_seconds(self) -> float:
        """Until one may be taken; 0.0: now."""
        with self._lock:
            return self._wait()

    def take(self) -> bool:
        """Take one; False when it is too early."""
        with self._lock:
            if self._wait() > 0:
                return False
            self._held -= 1
            return True

    def _wait(self) -> float:
        if self._per_second is None:
            return 0.0
        now = self._clock()
        self._held = min(self._burst, self._held + max(0.0, now - self._filled_at) * self._per_second)
        self._filled_at = now
        # Whoever waits for exactly so long must not find a hair missing because of how floats are rounded.
        return max(0.0, (1 - 1e-9 - self._held) / self._per_second)
