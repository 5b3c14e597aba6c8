"""A request to the scripted server and its answer, as bytes on a socket: HTTP/1.1, well-formed or broken on purpose."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from runner.models.api_rules import MAX_REQUEST_BYTES
from runner.models.script import Trouble

PING_SECONDS = 0.02
"""Between the pings of a stream that sends nothing else."""
MAX_HEADER_BYTES = 64 << 10
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One request, and the means to answer it: `whole`, or `stream`, `send` … and `end`, or anything at all, `raw`."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    is_too_long: bool
    """Then the body was read and thrown away."""
    connection: socket.socket
    stopped: threading.Event
    """Set when the server is to end."""

    def raw(self, data: bytes) -> None:
        self.connection.sendall(data)

    def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.raw(
            _head(status, {"content-type": "application/json", "content-length": str(len(body)), **headers}) + body
        )

    def error(
        self, status: int, message: str, headers: Mapping[str, str] | None = None, *, kind: str | None = None
    ) -> None:
        kind = kind or _ERROR_TYPES.get(status, "api_error")
        body = {"type": "error", "error": {"type": kind, "message": message}}
        self.whole(status, json.dumps(body).encode(), headers or {})

    def stream(self, headers: Mapping[str, str] | None = None) -> None:
        sent = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked", **(headers or {})}
        self.raw(_head(200, sent))

    def send(self, data: bytes) -> None:
        """A piece of a streamed body."""
        if data:
            self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.raw(b"0\r\n\r\n")

    def break_off(self, trouble: Trouble) -> bool:
        """Whether the response was ended as HTTP has it, so that the connection can serve another request."""
        match trouble.then:
            case "cut":
                pass
            case "reset":
                # With nothing to linger for, close() sends RST.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "end":
                self.end()
            case "hang":
                self.stopped.wait()
            case "pings":
                while not self.stopped.wait(PING_SECONDS):
                    self.send(event("ping"))
            case "error":
                error = {"type": trouble.error or "overloaded_error", "message": trouble.message}
                self.send(event("error", error=error))
                self.end()
            case "garbage":
                self.send(b"event: content_block_delta\ndata: {\xff\xfe\n\n")
                self.end()
        # One that we would close all the same may be reused by the client before it sees that: a race.
        return trouble.then in ("end", "error", "garbage")


def receive(incoming: BinaryIO, connection: socket.socket, stopped: threading.Event) -> Exchange | None:
    """The next request of a connection; None when there is none, or none that makes sense."""
    first = incoming.readline(MAX_HEADER_BYTES).split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := incoming.readline(MAX_HEADER_BYTES).strip():
        name, _, value = line.partition(b":")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    digits = headers.get("content-length", "0")
    if not digits.isdecimal() or len(digits) > 12:
        return None
    is_too_long = int(digits) > MAX_REQUEST_BYTES
    body = _discard(incoming, int(digits)) if is_too_long else incoming.read(int(digits))
    return Exchange(
        method=first[0].decode("latin-1"),
        # A proxy is asked for a whole URL.
        path=urlsplit(first[1].decode("latin-1")).path,
        headers=headers,
        body=body,
        is_too_long=is_too_long,
        connection=connection,
        stopped=stopped,
    )


def _discard(incoming: BinaryIO, length: int) -> bytes:
    # Read, because closing a connection with unread data would reset it before the client has the answer.
    while length > 0 and (data := incoming.read(min(length, 1 << 20))):
        length -= len(data)
    return b""


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Status"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def event(kind: str, **fields: Any) -> bytes:
    """One event of a stream, as it stands on the wire."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
