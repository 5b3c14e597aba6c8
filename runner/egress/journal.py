"""What is written down about connections: events for the transcript, and lines for the model."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runner.egress.meter import Meter
from runner.transcript import AnyEvent, EgressTried

MAX_LINES = 20
"""Lines that the model gets at once."""


class Journal:
    """Thread-safe. Says how many connections it left out, rather than to let a loop fill the transcript."""

    def __init__(self, record: Callable[[AnyEvent], None], meter: Meter) -> None:
        self._record = record
        self._meter = meter
        self._lock = threading.Lock()
        self._lines: dict[str, None] = {}
        self._more_lines = 0
        self._left_out: EgressTried | None = None
        """The last connection that got no event."""
        self._left_out_count = 0
        self._closed = False

    def record(self, event: EgressTried) -> None:
        """Put an ended or refused connection into the transcript, while there is room for more."""
        with self._lock:
            if self._closed:
                return
            if self._meter.take_event():
                self._record(event)
            else:
                self._left_out = event
                self._left_out_count += 1

    def tell(self, line: str) -> None:
        """Keep a line for the model; one that is there already is not kept twice."""
        with self._lock:
            if line in self._lines or len(self._lines) < MAX_LINES:
                self._lines[line] = None
            else:
                self._more_lines += 1

    def take_lines(self) -> tuple[str, ...]:
        """The lines since the last call."""
        with self._lock:
            lines, more = tuple(self._lines), self._more_lines
            self._lines, self._more_lines = {}, 0
        return (*lines, f"… and {more} more") if more else lines

    def close(self) -> None:
        """Say what was left out. From now on nothing is recorded. May be called twice."""
        with self._lock:
            if self._left_out is not None and not self._closed:
                more = f"; it stands for {self._left_out_count} connections, too many to be listed one by one"
                self._record(self._left_out.model_copy(update={"reason": self._left_out.reason + more}))
            self._closed = True
