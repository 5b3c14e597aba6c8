"""Fetch a page for the agent, from the runner's own machine: what WebFetch does.

The policy's WebFetch rules decide which URL may be fetched, the first one and each that a redirect leads to; addresses
that are not public are refused as for commands, unless the agent's egress list names them.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, urljoin

import h11

from runner.egress.reach import Refused, Resolver, Unreachable, connect, resolve
from runner.egress.response import asking, response
from runner.egress.trust import tls_context
from runner.policy import Call, Policy, decide
from runner.policy.egress import rules_for
from runner.policy.web import Target, parse_url
from runner.transcript import AnyEvent, EgressTried

SECONDS = 20.0
"""For one page, its redirects included."""
MAX_BYTES = 2_000_000
MAX_REDIRECTS = 5
PIECE_BYTES = 64 * 1024
REDIRECTS = frozenset((301, 302, 303, 307, 308))
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class NotFetched(Exception):
    """There is no page; the text tells the model why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a URL had."""

    url: str
    """After all redirects."""
    content_type: str
    """As the server says it; "" when it does not."""
    body: bytes
    """Decompressed."""
    truncated: bool
    """True: there was more than MAX_BYTES."""


Fetch = Callable[[str, float], Page]
"""The page at a URL, in so many seconds. Raises NotFetched."""


def upgraded(url: str) -> str:
    """The URL with https for http, unless it names a port."""
    return re.sub(r"\Ahttp(?=://(\[[^\]/]*\]|[^/?#:@\[\]]+)([/?#]|\Z))", "https", url, flags=re.IGNORECASE)


class Fetcher:
    """Fetches pages for one job. Matches Fetch."""

    def __init__(self, policy: Policy, record: Callable[[AnyEvent], None], *, resolver: Resolver = resolve) -> None:
        self._policy = policy
        self._record = record
        self._resolver = resolver

    def __call__(self, url: str, seconds: float = SECONDS) -> Page:
        """The page; the caller has seen to it that the policy, or a person, allows this first URL."""
        deadline = time.monotonic() + min(seconds, SECONDS)
        answer = self._get(url, deadline, asked_for=True)
        for _ in range(MAX_REDIRECTS):
            if answer.location is None:
                return answer.page()
            url = _joined(url, answer.location)
            answer = self._get(url, deadline, asked_for=False)
        raise NotFetched(f"More than {MAX_REDIRECTS} redirects; the last led to {url}.")

    def _get(self, url: str, deadline: float, *, asked_for: bool) -> _Answer:
        decision = decide(self._policy, Call(tool="WebFetch", subject=url))
        if not (decision.allowed or (asked_for and decision.verdict == "ask")):
            redirect = "" if asked_for else f"It redirects to {url}, which is a matter of its own: "
            raise NotFetched(f"{redirect}{decision.reason}")
        target = parse_url(url)
        with self._reached(target, decision.rule, deadline) as line:
            return _exchange(line, url, target)

    @contextlib.contextmanager
    def _reached(self, target: Target, rule: str | None, deadline: float) -> Iterator[_Line]:
        """A connection to the target; however it ends, it is recorded. Raises NotFetched."""
        started = time.monotonic()
        line: _Line | None = None
        reason, allowed = "listed", True
        try:
            connection, address = connect(
                rules_for(self._policy.egress, "agent"),
                target.host,
                target.port,
                resolver=self._resolver,
                seconds=deadline - started,
            )
            with contextlib.closing(_Line(connection, address, deadline)) as line:
                if target.scheme == "https":
                    line.secure(self._tls, target.host)
                yield line
        except (Refused, Unreachable, OSError) as error:
            allowed = not isinstance(error, Refused)
            reason = _in_words(error, target, late=line is not None and line.late)
            raise NotFetched(reason) from error
        finally:
            self._record(
                EgressTried(
                    phase="agent",
                    host=target.host,
                    port=target.port,
                    address=line.address if line else None,
                    allowed=allowed,
                    rule=rule,
                    reason=reason,
                    bytes_sent=line.sent if line else 0,
                    bytes_received=line.received if line else 0,
                    seconds=time.monotonic() - started,
                )
            )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context()


class _Line:
    """A connection to a server that ends, whatever the server does, at the deadline."""

    def __init__(self, connection: socket.socket, address: str, deadline: float) -> None:
        self.address = address
        self.sent = self.received = 0
        self.late = False
        self._socket = connection
        self._timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        # The handshake comes after, so that it can be cut as well.
        self._socket = tls = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
        tls.do_handshake()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)
        self.sent += len(data)

    def recv(self) -> bytes:
        data = self._socket.recv(PIECE_BYTES)
        if self.late:
            raise TimeoutError
        self.received += len(data)
        return data

    def close(self) -> None:
        self._timer.cancel()
        self._socket.close()

    def _cut(self) -> None:
        self.late = True
        with contextlib.suppress(OSError):
            # Not TLS's own shutdown, which is no affair of a second thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """A response, as far as it was read."""

    url: str
    head: h11.Response
    body: bytes
    truncated: bool

    @property
    def location(self) -> str | None:
        """Where it redirects to."""
        return self._header(b"location") if self.head.status_code in REDIRECTS else None

    def page(self) -> Page:
        if not 200 <= self.head.status_code < 300:
            phrase = self.head.reason.decode("ascii", "replace")
            raise NotFetched(f"{self.url} answered {self.head.status_code} {phrase}".rstrip() + ".")
        body, more = _decompressed(self.body, self._header(b"content-encoding") or "identity")
        return Page(
            url=self.url,
            content_type=self._header(b"content-type") or "",
            body=body,
            truncated=self.truncated or more,
        )

    def _header(self, name: bytes) -> str | None:
        return next((value.decode("latin-1") for key, value in self.head.headers if key == name), None)


def _joined(url: str, location: str) -> str:
    try:
        return upgraded(urljoin(url, location))
    except ValueError:
        raise NotFetched(f"{url} redirects to what is no URL.") from None


def _exchange(line: _Line, url: str, target: Target) -> _Answer:
    """Ask for the page and read what comes, so much of it as a page may have."""
    server = asking()
    line.send(server.send(_request(url, target)) or b"")
    line.send(server.send(h11.EndOfMessage()) or b"")
    events = response(server, line.recv)
    head = next(events)
    assert isinstance(head, h11.Response)
    body = bytearray()
    for event in events:
        assert isinstance(event, h11.Data)
        body += event.data
        if len(body) > MAX_BYTES:
            break
    return _Answer(url=url, head=head, body=bytes(body[:MAX_BYTES]), truncated=len(body) > MAX_BYTES)


def _request(url: str, target: Target) -> h11.Request:
    # What follows the host, without the fragment; what is not ASCII becomes %XX.
    asked = quote(re.sub(r"\A[^:]*://[^/?#]*|#.*", "", url), safe=PRINTABLE)
    host = f"[{target.host}]" if ":" in target.host else target.host
    headers = [
        ("Host", host if target.port in (80, 443) else f"{host}:{target.port}"),
        ("User-Agent", "claw-runner"),
        ("Accept", "text/html, text/*, application/json, application/xml;q=0.9, */*;q=0.1"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    return h11.Request(method="GET", target=asked if asked.startswith("/") else f"/{asked}", headers=headers)


def _decompressed(body: bytes, encoding: str) -> tuple[bytes, bool]:
    """The bytes themselves, and whether there are more than a page may have: some servers compress unasked."""
    match encoding.strip().lower():
        case "identity" | "":
            return body, False
        case "gzip" | "x-gzip" | "deflate":
            unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            try:
                return unpacker.decompress(body, MAX_BYTES), bool(unpacker.unconsumed_tail)
            except zlib.error as error:
                raise NotFetched(f"The page is not compressed as it says: {error}.") from None
    raise NotFetched(f"The page is compressed as {encoding[:40]!r}, which was not asked for.")


def _in_words(error: Exception, target: Target, *, late: bool) -> str:
    if late:
        return f"{target.host} took too long: a page has {SECONDS:.0f} s."
    match error:
        case ssl.SSLCertVerificationError():
            return f"The certificate of {target.host} is not trusted: {error.verify_message}."
        case OSError():
            return f"The connection to {target.host} broke: {error.strerror or error}."
    return f"{target.host} was not reached: {error}."
