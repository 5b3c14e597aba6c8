"""What is said on the proxy port: HTTP/1.1, as a program says it to a proxy (RFC 9110, RFC 9112).

`CONNECT host:port` is answered with a blind relay of bytes. A request for a whole `http://` URL is read, cleaned and
written anew, as is its response, so that both ends agree where a message ends. Everything else is refused. Each
request is judged by itself; a redirect is the program's own next request.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import NamedTuple

import h11

from runner.egress.connection import Connection, OverLimit, Remote
from runner.egress.reach import Refused, Unreachable
from runner.egress.response import MAX_HEADER, MAX_WORDS, asking, response
from runner.errors import SandboxLost

LINGER_SECONDS = 2.0
"""Time for a program to read why it was refused, although it still sends."""
IDLE_SECONDS = 30.0
"""A program whose host has hung up, and that does not, may be keeping the connection for nothing."""
SIGNATURE = "(claw-runner)"
MAX_HOST = 255

Headers = list[tuple[bytes, bytes]]


class Authority(NamedTuple):
    """Where a request goes."""

    host: str
    port: int


class _Bad(Exception):
    """Not what may be asked of a proxy."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def converse(connection: Connection) -> None:
    """Serve requests until the program, the host or the connection ends. Raises SandboxLost and BrokenPipeError."""
    program = _Program(connection)
    try:
        while request := program.request():
            if request.method == b"CONNECT":
                _connect(connection, program, request)
                return
            _forward(connection, program, request)
            if not program.another():
                return
    except _Bad as error:
        connection.refuse(str(error))
        program.refuse(error.status, str(error))
    except Refused as error:
        program.refuse(403, str(error))
    except OverLimit as error:
        program.refuse(413, str(error))
    except Unreachable as error:
        program.refuse(502, str(error))
    except OSError:
        # The host hung up in the middle; the program sees that its response is not whole.
        connection.tunnel.close()


class _Program:
    """The program's side of the conversation."""

    def __init__(self, connection: Connection) -> None:
        self._tunnel = connection.tunnel
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)

    def request(self) -> h11.Request | None:
        """The next request; None when there is none any more. Raises _Bad."""
        event = self._next()
        return event if isinstance(event, h11.Request) else None

    def body(self) -> Iterator[bytes]:
        """The request's body. Raises _Bad when it is not whole."""
        if self._http.they_are_waiting_for_100_continue:
            self.send(h11.InformationalResponse(status_code=100, headers=[]))
        while not isinstance(event := self._next(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise _Bad(400, "the request ends too early")
            yield bytes(event.data)

    def send(self, event: h11.Event) -> None:
        """A part of the response."""
        if data := self._http.send(event):
            self._tunnel.send(data)

    def another(self) -> bool:
        """Whether a further request may come on this connection."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def switch(self) -> bytes:
        """From here on it is no HTTP; returns what the program has sent already."""
        self.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        data, _ = self._http.trailing_data
        return data

    def refuse(self, status: int, reason: str) -> None:
        """Say why not, as the last thing on this connection, if nothing was said yet."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._tunnel.close()
            return
        text = f"claw-runner: {reason}\n".encode("ascii", "replace")
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text))), ("Connection", "close")]
        phrase = f"{reason.partition(';')[0]} {SIGNATURE}".encode("ascii", "replace")
        self.send(h11.Response(status_code=status, headers=headers, reason=phrase))
        self.send(h11.Data(data=text))
        self.send(h11.EndOfMessage())
        self._linger()

    def _linger(self) -> None:
        """Let the program read: to close while it sends would take away from it what it has not read yet."""
        self._tunnel.send(b"")
        timer = threading.Timer(LINGER_SECONDS, self._tunnel.close)
        timer.daemon = True
        timer.start()
        try:
            while self._tunnel.recv():
                pass
        finally:
            timer.cancel()

    def _next(self) -> object:
        """What comes next, as h11 has it. Raises _Bad."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(self._tunnel.recv())
        except h11.RemoteProtocolError as error:
            raise _Bad(error.error_status_hint, f"not a request for a proxy: {str(error)[:MAX_WORDS]}") from None
        return event


# -- CONNECT


def _connect(connection: Connection, program: _Program, request: h11.Request) -> None:
    authority = _authority(request.target)
    if any(program.body()):
        raise _Bad(400, "CONNECT with a body")
    with connection.reach(*authority) as remote:
        _relay(connection, remote, program.switch())


def _authority(target: bytes) -> Authority:
    found = re.fullmatch(r"(\[[^\[\]]+\]|[^\[\]:/?#@]+):(\d{1,5})", target.decode("ascii"))
    if not found:
        raise _Bad(400, "CONNECT wants host:port")
    return _checked(found[1], int(found[2]))


def _checked(host: str, port: int) -> Authority:
    if len(host) > MAX_HOST or not 1 <= port <= 65535:
        raise _Bad(400, "there is no such host or port")
    return Authority(host, port)


def _relay(connection: Connection, remote: Remote, first: bytes) -> None:
    """Pass bytes on, both ways, until both have ended. Raises OverLimit and OSError, also those of the way back."""
    failures: list[OverLimit | OSError] = []
    sent_all = threading.Event()

    def back() -> None:
        try:
            while data := remote.recv():
                connection.tunnel.send(data)
            connection.tunnel.send(b"")
            sent_all.wait(IDLE_SECONDS)
        except (OverLimit, OSError) as error:
            failures.append(error)
        except SandboxLost:
            pass  # the other way meets it too
        finally:
            remote.cut()
            connection.tunnel.close()

    thread = threading.Thread(target=back, name=f"{threading.current_thread().name}-back", daemon=True)
    thread.start()
    try:
        _send_all(connection, remote, first)
    except BaseException:
        remote.cut()
        raise
    finally:
        sent_all.set()
        thread.join()
    # A program that goes without reading all is no failure.
    for failure in failures:
        if not isinstance(failure, BrokenPipeError):
            raise failure


def _send_all(connection: Connection, remote: Remote, first: bytes) -> None:
    if first:
        remote.send(first)
    while data := connection.tunnel.recv():
        remote.send(data)
    remote.end()


# -- requests for an http:// URL


# Of one connection and not of the message (RFC 9110, 7.6.1), and what is ours to say or to know.
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    )
)


def _forward(connection: Connection, program: _Program, request: h11.Request) -> None:
    """Pass on one request and its response."""
    authority, path = _split(request.target)
    names = {name for name, _ in request.headers}
    if {b"content-length", b"transfer-encoding"} <= names:
        raise _Bad(400, "a request with two lengths")
    host = authority.host if authority.port == 80 else f"{authority.host}:{authority.port}"
    headers = [(b"Host", host.encode("ascii")), *_end_to_end(request), (b"Connection", b"close")]
    head = h11.Request(method=request.method, target=path, headers=headers)
    with connection.reach(*authority) as remote:
        server = asking()
        for data in _written(server, head, program):
            try:
                remote.send(data)
            except (BrokenPipeError, ConnectionResetError):
                break  # a host that has heard enough may answer, and close, before it has all
        for event in response(server, remote.recv):
            program.send(_cleaned(event) if isinstance(event, h11.Response) else event)
        program.send(h11.EndOfMessage())


def _written(server: h11.Connection, head: h11.Request, program: _Program) -> Iterator[bytes]:
    """The request as it goes to the host."""
    yield server.send(head) or b""
    for data in program.body():
        yield server.send(h11.Data(data=data)) or b""
    yield server.send(h11.EndOfMessage()) or b""


def _split(target: bytes) -> tuple[Authority, bytes]:
    """Where to, and the path that is asked for there."""
    found = re.fullmatch(rb"(?i:http)://(\[[^\[\]]+\]|[^\[\]:/?#@]+)(?::(\d{1,5}))?([/?][^#]*)?", target)
    if not found:
        hint = "; ask for https with CONNECT" if target.lower().startswith(b"https:") else ""
        raise _Bad(400, f"not a request for a proxy: it must name a whole http:// URL{hint}")
    path = found[3] or b"/"
    return _checked(found[1].decode("ascii"), int(found[2] or 80)), path if path.startswith(b"/") else b"/" + path


def _end_to_end(message: h11.Request | h11.Response) -> Headers:
    """The headers that are for the other end, their names as they were written."""
    connection = b",".join(value for name, value in message.headers if name == b"connection")
    named = {name.strip().lower() for name in connection.split(b",")}
    left_out = _HOP_BY_HOP | (named - _FRAMING)
    return [(name, value) for name, value in message.headers.raw_items() if name.lower() not in left_out]


_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


def _cleaned(head: h11.Response) -> h11.Response:
    headers = _end_to_end(head)
    if any(name == b"transfer-encoding" for name, _ in head.headers):
        # In chunks, whatever else it says of its length; they are made anew.
        headers = [(name, value) for name, value in headers if name.lower() not in _FRAMING]
    return h11.Response(status_code=head.status_code, headers=headers, reason=head.reason)
