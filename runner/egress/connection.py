"""One connection to the proxy port, and the connection to a host outside that it may be given."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from runner.egress.journal import Journal
from runner.egress.meter import Meter
from runner.egress.reach import Refused, Resolver, Unreachable, connect
from runner.policy.domains import DomainPattern
from runner.policy.egress import Phase, judge_name, needed
from runner.policy.schema import show_size
from runner.sandbox.base import Tunnel
from runner.transcript import EgressTried

PIECE_BYTES = 64 * 1024


class OverLimit(Exception):
    """The job's bytes are used up; the text says so."""


class Connection:
    """What a process connected to, in the phase in which it did. `stop` ends it from any thread."""

    def __init__(
        self,
        tunnel: Tunnel,
        phase: Phase,
        rules: tuple[DomainPattern, ...],
        *,
        meter: Meter,
        journal: Journal,
        resolver: Resolver,
    ) -> None:
        self.tunnel = tunnel
        self._phase = phase
        self._rules = rules
        self._meter = meter
        self._journal = journal
        self._resolver = resolver
        self._lock = threading.Lock()
        self._remote: Remote | None = None
        self._stopped: str | None = None
        """Why it was ended from outside."""

    def stop(self, why: str) -> None:
        """End it now; the first reason stays."""
        with self._lock:
            self._stopped = self._stopped or why
            if self._remote is not None:
                self._remote.cut()
        self.tunnel.close()

    @contextlib.contextmanager
    def reach(self, host: str, port: int) -> Iterator[Remote]:
        """The host, when it may be reached and can be; however it ends, it is written down.

        Raises Refused, Unreachable, and OverLimit when nothing may be transferred any more.
        """
        started = time.monotonic()
        allowed, rule, reason = judge_name(self._rules, host, port)
        remote: Remote | None = None
        try:
            if not allowed:
                raise Refused(f"{reason}; the policy would need, in egress.{self._phase}: {needed(host, port)}")
            remote = self._open(host, port)
            yield remote
        except (Refused, Unreachable, OverLimit) as error:
            allowed = remote is not None or isinstance(error, Unreachable)
            reason = str(error)
            self._journal.tell(f"{host}:{port}: {reason}")
            raise
        except OSError as error:
            reason = f"{reason}; broken off: {error.strerror or error}"
            raise
        finally:
            self._release()
            self._journal.record(
                EgressTried(
                    phase=self._phase,
                    host=host,
                    port=port,
                    address=remote.address if remote else None,
                    allowed=allowed,
                    rule=rule,
                    reason=self._stopped or reason,
                    bytes_sent=remote.sent if remote else 0,
                    bytes_received=remote.received if remote else 0,
                    seconds=time.monotonic() - started,
                )
            )

    def refuse(self, reason: str) -> None:
        """Write down what asked for no host at all."""
        self._journal.record(
            EgressTried(phase=self._phase, host="", port=0, address=None, allowed=False, rule=None, reason=reason)
        )

    def _open(self, host: str, port: int) -> Remote:
        if self._meter.empty:
            raise OverLimit(_used_up(self._meter))
        connection, address = connect(self._rules, host, port, resolver=self._resolver)
        with self._lock:
            self._remote = remote = Remote(connection, address, self._meter)
            if self._stopped is not None:
                remote.cut()
        return remote

    def _release(self) -> None:
        with self._lock:
            remote, self._remote = self._remote, None
            if remote is not None:
                remote.close()


class Remote:
    """The connection to a host outside. What goes over it is counted, and is no more than the job has left."""

    def __init__(self, connection: socket.socket, address: str, meter: Meter) -> None:
        self.address = address
        self.sent = 0
        """Bytes from the container; `received` are those to it."""
        self.received = 0
        self._socket = connection
        self._meter = meter

    def send(self, data: bytes) -> None:
        """Raises OverLimit, and OSError when the host takes no more."""
        self._take(len(data))
        self._socket.sendall(data)
        self.sent += len(data)

    def recv(self) -> bytes:
        """What comes next; b"" at the end. Raises OverLimit and OSError."""
        data = self._socket.recv(PIECE_BYTES)
        self._take(len(data))
        self.received += len(data)
        return data

    def end(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):  # the host has gone already
            self._socket.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Wake whoever waits in `send` or `recv`: it is over. From any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _take(self, size: int) -> None:
        if not self._meter.take(size):
            raise OverLimit(_used_up(self._meter))


def _used_up(meter: Meter) -> str:
    return f"the job has used up its egress.bytes ({show_size(meter.limit)})"
