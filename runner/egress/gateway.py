"""The gateway: the host's end of the proxy port in a container. It decides, connects, counts and records."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runner.egress.connection import Connection
from runner.egress.journal import Journal
from runner.egress.meter import Meter
from runner.egress.proxy import converse
from runner.egress.reach import Resolver, resolve
from runner.policy.egress import Phase, rules_for
from runner.policy.schema import Egress
from runner.sandbox.base import Tunnel
from runner.transcript import AnyEvent

CLOSE_SECONDS = 5.0
"""How long `close` waits for connections to end; one that is being made may take longer, and is forgotten."""


class Gateway:
    """Serves the tunnels of one container: `on_tunnel` of its SandboxConfig. Thread-safe."""

    def __init__(
        self,
        egress: Egress,
        record: Callable[[AnyEvent], None],
        phase: Phase = "setup",
        *,
        meter: Meter | None = None,
        resolver: Resolver = resolve,
    ) -> None:
        """`record` is called from several threads. All gateways of one job are to have the same `meter`."""
        self._egress = egress
        self._meter = meter or Meter(egress.bytes)
        self._journal = Journal(record, self._meter)
        self._resolver = resolver
        self._phase = phase
        self._rules = rules_for(egress, phase)
        self._changed = threading.Condition()
        """Guards the phase, the rules, and what follows."""
        self._connections: set[Connection] = set()
        self._closed = False

    @property
    def phase(self) -> Phase:
        """What goes on in the container. Setting it ends what is open; new connections are judged by its list."""
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        with self._changed:
            self._phase, self._rules = phase, rules_for(self._egress, phase)
            old = list(self._connections)
        for connection in old:
            connection.stop("cut, because the phase was over")

    def __call__(self, tunnel: Tunnel) -> None:
        """Serve one connection until it ends. Raises SandboxLost, and BrokenPipeError when the process is gone."""
        connection = self._admit(tunnel)
        if connection is None:
            return
        seconds = self._egress.seconds
        timer = threading.Timer(seconds, connection.stop, [f"cut after {seconds:g} s (egress.seconds)"])
        timer.daemon = True
        timer.start()
        try:
            converse(connection)
        finally:
            timer.cancel()
            with self._changed:
                self._connections.remove(connection)
                self._changed.notify_all()

    def refusals_since(self) -> tuple[str, ...]:
        """What was refused or not reached since the last call: lines for the model."""
        return self._journal.take_lines()

    def close(self) -> None:
        """End all connections; when this returns nothing is recorded any more. May be called twice."""
        with self._changed:
            self._closed = True
            old = list(self._connections)
        for connection in old:
            connection.stop("cut, because the container was closed")
        with self._changed:
            self._changed.wait_for(lambda: not self._connections, timeout=CLOSE_SECONDS)
        self._journal.close()

    def _admit(self, tunnel: Tunnel) -> Connection | None:
        with self._changed:
            if self._closed:
                return None
            connection = Connection(
                tunnel,
                self._phase,
                self._rules,
                meter=self._meter,
                journal=self._journal,
                resolver=self._resolver,
            )
            self._connections.add(connection)
            return connection
