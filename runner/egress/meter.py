"""What all connections of one job have used together."""

from __future__ import annotations

import threading

MAX_EVENTS = 1000
"""Connections of a job that get an event each in the transcript."""


class Meter:
    """Counts bytes and events of a job down; for any number of threads and gateways."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes, both directions together."""
        self.limit = limit
        self._bytes = limit
        self._events = MAX_EVENTS
        self._lock = threading.Lock()

    @property
    def empty(self) -> bool:
        """Whether nothing may be transferred any more."""
        return self._bytes <= 0

    def take(self, size: int) -> bool:
        """Count bytes that are about to be passed on; False when they are more than is left, which is then nothing."""
        with self._lock:
            self._bytes -= size
            return self._bytes >= 0

    def take_event(self) -> bool:
        """False when there have been enough."""
        with self._lock:
            self._events -= 1
            return self._events >= 0
