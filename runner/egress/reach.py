"""Reach a host: look its name up, judge every address it has, and connect to one that was judged.

The address that was judged is the one that is connected to. The name is not looked up a second time, so a name server
that answers differently each time gains nothing.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from runner.policy.domains import DomainPattern, parse_address
from runner.policy.egress import judge_address

RESOLVE_SECONDS = 10.0
CONNECT_SECONDS = 10.0
"""For one address."""
REACH_SECONDS = 30.0
"""For all tries together; one that is under way may end later."""
PAUSES = (0.0, 0.2, 0.5)
"""Seconds before each try; programs inside are told not to try again themselves."""

Resolver = Callable[[str, int], Sequence[str]]
"""The addresses of a name, best first. Raises OSError."""


class Refused(Exception):
    """The policy says no; the text says why."""


class Unreachable(Exception):
    """There is no such host, or it does not answer; the text says which."""


def connect(
    rules: Iterable[DomainPattern], host: str, port: int, *, resolver: Resolver, seconds: float = REACH_SECONDS
) -> tuple[socket.socket, str]:
    """A connection to a host whose name was judged already, and the address it goes to.

    `rules` name the addresses that may be connected to although they are not public. Raises Refused, Unreachable.
    """
    rules, deadline = tuple(rules), time.monotonic() + seconds
    why: OSError = TimeoutError("no time left")
    for pause in PAUSES:
        if time.monotonic() + pause > deadline:
            break
        time.sleep(pause)
        try:
            return _connect_once(rules, host, port, resolver, deadline)
        except OSError as error:
            why = error
            if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
                break
    raise Unreachable(_in_words(host, port, why)) from why


def resolve(host: str, port: int) -> list[str]:
    """As this machine resolves names. Raises OSError, after RESOLVE_SECONDS at the latest."""
    answer: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            # As bytes, for Python's own idea of a host name is narrower than what names there are.
            found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
            answer.put([str(entry[4][0]) for entry in found])
        except OSError as error:
            answer.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=RESOLVE_SECONDS)
    except queue.Empty:
        raise socket.gaierror(socket.EAI_FAIL, f"no answer in {RESOLVE_SECONDS:.0f} s") from None
    if isinstance(found, OSError):
        raise found
    return found


def _connect_once(
    rules: tuple[DomainPattern, ...], host: str, port: int, resolver: Resolver, deadline: float
) -> tuple[socket.socket, str]:
    why: OSError = socket.gaierror(socket.EAI_NONAME, "it has no address")
    for address in _allowed(rules, host, port, resolver):
        left = max(0.1, min(CONNECT_SECONDS, deadline - time.monotonic()))
        try:
            connection = socket.create_connection((address, port), timeout=left)
        except OSError as error:
            why = error
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
        return connection, address
    raise why


def _allowed(rules: tuple[DomainPattern, ...], host: str, port: int, resolver: Resolver) -> list[str]:
    """The addresses that may be connected to. Raises Refused when the host has others only."""
    address = parse_address(host)
    addresses = [str(address)] if address else list(dict.fromkeys(resolver(host, port)))
    judged = [(address, judge_address(rules, address, port)) for address in addresses]
    refused = [judgement.reason for _, judgement in judged if not judgement.allowed]
    if refused and len(refused) == len(judged):
        raise Refused(f"{refused[0]}; the policy would need that address itself in its egress list")
    return [address for address, judgement in judged if judgement.allowed]


def _in_words(host: str, port: int, why: OSError) -> str:
    what = why.strerror or str(why)
    if isinstance(why, socket.gaierror):
        return f"{host} does not resolve: {what}"
    return f"{host}:{port} does not answer: {what}"
