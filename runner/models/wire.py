"""An HTTP transport that keeps its time and its size, whatever the other side does.

The SDK's own transport times each read alone, so a byte a second holds it for ever; it unpacks what it is sent (a
megabyte of gzip becomes gigabytes), and it reads the body of an error to its end. Here one deadline covers connecting,
TLS, sending, headers and body; nothing is unpacked; sizes are bounded. The key is put on the request here and nowhere
above, so that no error, log line or traceback of the SDK can hold it.

Imported only when a request is made: httpx2 and httpcore2 take a tenth of a second.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import httpcore2
import httpx2

from runner.models.retry import Fault
from runner.models.secret import Secret

MAX_REPLY_BYTES = 32 << 20
MAX_ERROR_BYTES = 64 << 10
"""Of the body of an error answer; the rest is left unread."""
ERROR_BODY_SECONDS = 3.0
"""Time for the body of an error answer: its status and headers are what counts."""
CONNECT_SECONDS = 20.0
KEEP_SECONDS = 600.0
"""How long a connection waits for the next request: between two of them tools may run for minutes."""
KEY_STAND_IN = "key-stand-in"
"""Given to the SDK for a key; in its headers, wherever it puts it, the transport replaces it by the key."""
_STAND_IN = KEY_STAND_IN.encode()
_WRITE_BYTES = 64 << 10


class Clock(threading.local):
    """What this thread's request has left; a thread makes one request at a time."""

    deadline = float("inf")
    """On time.monotonic()."""
    silence = float("inf")
    """Seconds that may pass without a byte."""
    has_sent = False
    """Whether the request has begun to leave: from then on it may be billed."""

    def timeout(self) -> float:
        """Seconds that one operation may take. Raises Fault when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Fault("no finished reply within the time for this request")
        return min(left, self.silence)

    def fault(self) -> Fault:
        """Why an operation that had `timeout()` seconds timed out."""
        if time.monotonic() >= self.deadline:
            return Fault("no finished reply within the time for this request")
        return Fault(f"nothing came for {self.silence:.3g} s", retryable=True)


class Wire(httpx2.BaseTransport):
    """Requests to one address, with one key. Safe to share between threads."""

    def __init__(self, key: Secret, *, tls: bool, proxy: str | None) -> None:
        """`proxy` is a URL, which may hold a user and a password."""
        self.clock = Clock()
        self._key = key
        self._backend = _Backend(self.clock, key)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_tls_context() if tls else None,
            proxy=None if proxy is None else _proxy(proxy),
            max_connections=None,
            keepalive_expiry=KEEP_SECONDS,
            network_backend=self._backend,
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        key = self._key.reveal().encode()
        response = self._pool.handle_request(
            httpcore2.Request(
                method=request.method,
                url=_core_url(request.url),
                headers=[(name, value.replace(_STAND_IN, key)) for name, value in request.headers.raw],
                content=_Outgoing(request.stream, self.clock),
            )
        )
        body = _Body(response, self.clock)
        stream = response.extensions.get("network_stream")
        if isinstance(stream, _Stream) and not stream.has_read:
            body.close()
            stream.close()
            raise Fault("a reply was there before its request was sent", retryable=True)
        if body.is_packed and not body.is_error:
            body.close()
            raise Fault("the reply is compressed, though it was asked not to be")
        return httpx2.Response(
            status_code=response.status,
            # Without its content-encoding: httpx2 would unpack the body.
            headers=[(name, value) for name, value in response.headers if name.lower() != b"content-encoding"],
            stream=body,
        )

    def abort(self) -> None:
        """Break all connections off, under whoever uses them: what waits for a byte fails at once. From any thread."""
        self._backend.abort()

    def close(self) -> None:
        self._pool.close()


class _Outgoing:
    """A request's body. It is asked for once there is a connection and the headers are sent, and not before."""

    def __init__(self, body: object, clock: Clock) -> None:
        assert isinstance(body, Iterable)
        self._body: Iterable[bytes] = body
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        self._clock.has_sent = True
        return iter(self._body)


class _Body(httpx2.SyncByteStream):
    """A bounded body: too long a reply is a Fault, of an error the beginning is enough."""

    def __init__(self, response: httpcore2.Response, clock: Clock) -> None:
        assert isinstance(response.stream, Iterable)
        self._response = response
        self._chunks: Iterable[bytes] = response.stream
        self._clock = clock
        self.is_error = not 200 <= response.status < 300
        self.is_packed = any(
            name.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity")
            for name, value in response.headers
        )

    def __iter__(self) -> Iterator[bytes]:
        return self._beginning() if self.is_error else self._bounded()

    def _bounded(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._chunks:
            size += len(chunk)
            if size > MAX_REPLY_BYTES:
                raise Fault(f"the reply is longer than {MAX_REPLY_BYTES >> 20} MiB")
            yield chunk

    def _beginning(self) -> Iterator[bytes]:
        self._clock.deadline = min(self._clock.deadline, time.monotonic() + ERROR_BODY_SECONDS)
        size = 0
        try:
            for chunk in self._chunks:
                size += len(chunk)
                yield chunk
                if size > MAX_ERROR_BYTES:
                    return
        except (Fault, httpcore2.NetworkError, httpcore2.ProtocolError):
            return

    def close(self) -> None:
        self._response.close()


class _Backend(httpcore2.SyncBackend):
    """Sockets that ask the clock before each operation, and do not let the key back in."""

    def __init__(self, clock: Clock, key: Secret) -> None:
        self._clock = clock
        self._key = key.reveal().encode()
        self._open: set[_Stream] = set()
        self._aborted = False

    def abort(self) -> None:
        self._aborted = True
        for stream in tuple(self._open):
            stream.abort()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        seconds = min(self._clock.timeout(), CONNECT_SECONDS)
        try:
            stream = super().connect_tcp(host, port, seconds, local_address, socket_options)
        except httpcore2.TimeoutException:
            raise Fault("no connection in time", retryable=True) from None
        opened = _Stream(stream, self._clock, self._key, self._open)
        if self._aborted:
            opened.close()
            raise Fault("the connection was broken off here")
        return opened


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, clock: Clock, key: bytes, open: set[_Stream]) -> None:
        """`open`: where it stands until it is closed."""
        self._stream = stream
        self._clock = clock
        self._key = key
        self._open = open
        open.add(self)
        self.has_read = False
        """Since the last write. A reply without a read was left over from what came with the one before it."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            data = self._stream.read(max_bytes, self._clock.timeout())
        except httpcore2.TimeoutException:
            raise self._clock.fault() from None
        self.has_read = True
        # A provider that sends the key back would have it in the debug logs of three libraries. As long as before,
        # because lengths may have been announced.
        return data.replace(self._key, b"*" * len(self._key))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.has_read = False
        try:
            for start in range(0, len(buffer), _WRITE_BYTES):
                self._stream.write(buffer[start : start + _WRITE_BYTES], self._clock.timeout())
        except httpcore2.TimeoutException:
            raise self._clock.fault() from None

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, self._clock.timeout())
        except httpcore2.TimeoutException:
            raise self._clock.fault() from None
        self._open.discard(self)
        return _Stream(stream, self._clock, self._key, self._open)

    def abort(self) -> None:
        """Unlike `close` it wakes a thread that waits for the other side."""
        with suppress(OSError):
            self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._open.discard(self)
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@cache
def _tls_context() -> ssl.SSLContext:
    # Reading the system's certificates takes 30 ms: once for all clients of the process.
    return httpx2.create_ssl_context()


def _proxy(url: str) -> httpcore2.Proxy:
    proxy = httpx2.Proxy(url)  # takes user and password out of the URL
    return httpcore2.Proxy(_core_url(proxy.url), auth=proxy.raw_auth)


def _core_url(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
