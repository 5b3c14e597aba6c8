"""What a test has of the way out of a container: it plays the program inside, and sees what is written down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runner.egress import Gateway
from runner.transcript import AnyEvent, EgressTried
from tests.egress.servers import SECONDS, dial, read_all, read_until


class Written:
    """Takes what a gateway records."""

    def __init__(self) -> None:
        self.events: list[EgressTried] = []
        self._news = threading.Condition()

    def __call__(self, event: AnyEvent) -> None:
        assert isinstance(event, EgressTried)
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def wait(self, count: int) -> list[EgressTried]:
        """All events, once there are so many."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.events) >= count, timeout=SECONDS)
            return list(self.events)


@dataclass(kw_only=True)
class Way:
    """The way out of a container, for a test that plays the program inside."""

    gateway: Gateway
    port: int
    written: Written
    looked_up: list[str]

    def open(self, host: str, port: int) -> tuple[int, str, socket.socket]:
        """Ask for a tunnel by CONNECT: status, reason phrase, connection."""
        connection = dial(self.port)
        connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        line, *_ = read_until(connection, b"\r\n\r\n").decode().splitlines()
        _, status, phrase = line.split(" ", 2)
        return int(status), phrase, connection

    def ask(self, host: str, port: int) -> tuple[int, str]:
        """The same, without any use of the connection."""
        status, phrase, connection = self.open(host, port)
        connection.close()
        return status, phrase

    def say(self, data: bytes) -> bytes:
        """All that is answered to these bytes, after which nothing more is sent."""
        with dial(self.port) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def event(self) -> EgressTried:
        """The one event that there is, and will be."""
        self.written.wait(1)
        self.gateway.close()
        [event] = self.written.events
        return event


@dataclass
class Names:
    """A resolver with names of its own."""

    known: dict[str, Sequence[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.known[host]


Open = Callable[..., Way]
