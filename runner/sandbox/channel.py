"""The host's side of the pipe: requests to the toolbox, and tunnels from it, as frames. Protocol: docs/protocol.md.

Whatever runs in the container may speak on the other end, so nothing that arrives is trusted: it is bounded, checked,
and the first thing that breaks the protocol ends the channel. One thread reads; callers send and wait in their own.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from runner.errors import OutOfMemory, SandboxError, SandboxLost
from runner.sandbox.base import Tunnel
from runner.toolbox import frames

SEND_SECONDS = 60
"""A transport gives up sending when the other end has taken nothing for this time."""
REASON_SECONDS = 2.0
"""How long one who cannot send waits for the reader to find out why."""
GRANT_BYTES = frames.WINDOW // 4
MAX_MESSAGE = 500


class Transport(Protocol):
    """Bytes to and from the toolbox. `send` and `recv` are called from different threads."""

    def send(self, data: bytes) -> None:
        """Send all. Raises OSError when the other end is gone, or has taken nothing for SEND_SECONDS."""
        ...

    def recv(self) -> bytes:
        """What has come, at most some 100 KiB; waits for the first byte; b"" at the end. Raises OSError."""
        ...

    def close(self) -> None:
        """End the connection; a `recv` or `send` waiting in another thread returns or raises. May be called twice."""
        ...


def limit_send_time(connection: socket.socket) -> None:
    """Make a blocking socket keep the promise of `Transport.send` (SO_SNDTIMEO, socket(7): a struct timeval)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))


class Channel:
    """Requests over one transport, from any number of threads. Once it ended, all of them raise SandboxLost."""

    def __init__(self, transport: Transport, *, on_tunnel: Callable[[Tunnel], None] | None = None) -> None:
        """`on_tunnel` is called for each tunnel, in a thread of its own; when it returns the tunnel is closed."""
        self._transport = transport
        self._on_tunnel = on_tunnel
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._tunnels: dict[int, _Tunnel] = {}
        """Those that we have not ended."""
        self._newest_tunnel = 0
        self._lost: str | None = None
        self._out_of_memory = False
        self._reader = threading.Thread(target=self._read, name="pipe", daemon=True)
        self._reader.start()

    def request(
        self,
        op: str,
        arguments: dict[str, Any] | None = None,
        *,
        stdin: Iterable[bytes] = (),
        on_data: Callable[[bytes], object] | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """The toolbox's answer to one operation.

        `stdin`, when given, is streamed to it, and `on_data` gets what it streams back, both in the caller's thread and
        only as fast as the other side takes it. Raises the OSError that the operation met, KeyError for an unknown
        background task, SandboxError when the toolbox does not know such a request, and SandboxLost when the channel
        ended, or no answer came within `seconds`. Leaving it by any other exception cancels the request.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        stream = self._open(op, arguments or {})
        try:
            if stdin == ():
                answer = self._converse(stream, None, on_data, deadline)
            else:
                with self._send_limit(stream, seconds):
                    answer = self._converse(stream, _Stdin(stdin), on_data, deadline)
        except BaseException:
            self._abandon(stream)
            raise
        return _unwrap(answer)

    def close(self) -> None:
        """End the channel; requests that wait in other threads raise SandboxLost. May be called twice."""
        self._end("the sandbox was closed")
        self._reader.join(timeout=5)

    # --- the caller's side

    def _open(self, op: str, arguments: dict[str, Any]) -> _Stream:
        with self._sending:
            stream = _Stream(self._next)
            try:
                frame = frames.encode_json(stream.id, frames.OPEN, {"op": op, "arguments": arguments})
            except ValueError as error:
                raise SandboxError(f"{op}: {error}") from error
            self._next += 2
            with self._lock:
                self._check()
                self._streams[stream.id] = stream
            stream.op = op
            self._put(frame)
        return stream

    def _converse(
        self,
        stream: _Stream,
        stdin: _Stdin | None,
        on_data: Callable[[bytes], object] | None,
        deadline: float | None,
    ) -> dict[str, Any]:
        while True:
            with self._lock:
                data, answer, credit = stream.collect(), stream.answer, stream.credit
                if answer is None:
                    self._check()
            if answer is None and deadline is not None and time.monotonic() > deadline:
                self._end(f"the toolbox did not answer {stream.op!r} in time")
                raise self._loss()
            if data:
                self._deliver(stream, data, on_data)
            if answer is not None:
                return answer
            if stdin is not None and credit > 0:
                stdin = stdin if self._feed(stream, stdin, credit) else None
            else:
                stream.wait(deadline)

    def _deliver(self, stream: _Stream, data: bytes, on_data: Callable[[bytes], object] | None) -> None:
        if on_data is None:
            self._end(f"the toolbox broke the protocol: data in answer to {stream.op!r}")
            raise self._loss()
        on_data(data)
        if credit := self._granted(stream, len(data)):
            self._send(frames.encode_credit(stream.id, credit))

    def _granted(self, stream: _Stream, size: int) -> int:
        """Credit to send now that `size` more bytes are dealt with; small amounts wait for the next."""
        with self._lock:
            stream.consumed += size
            if stream.answer is not None or stream.consumed < GRANT_BYTES:
                return 0
            granted, stream.consumed = stream.consumed, 0
            stream.allowance += granted
            return granted

    def _feed(self, stream: _Stream, stdin: _Stdin, credit: int) -> bool:
        """Send the next piece; False when it was the last."""
        piece = stdin.take(min(credit, frames.MAX_DATA))
        with self._lock:
            stream.credit -= len(piece)
        self._send(frames.encode(stream.id, frames.DATA, piece))
        return bool(piece)

    def _abandon(self, stream: _Stream) -> None:
        """Nobody waits for this answer any more: what still comes of it is thrown away."""
        with self._lock:
            if stream.answer is not None or self._lost is not None:
                return
            stream.abandoned = True
            stream.buffer.clear()
        with contextlib.suppress(SandboxLost):
            self._send(frames.encode(stream.id, frames.CANCEL))

    def _loss(self) -> SandboxLost:
        return (OutOfMemory if self._out_of_memory else SandboxLost)(self._lost)

    def _check(self) -> None:
        if self._lost is not None:
            raise self._loss()

    # --- sending

    @contextlib.contextmanager
    def _send_limit(self, stream: _Stream, seconds: float | None) -> Iterator[None]:
        """End the channel when the request takes longer, even while a send is stuck.

        SEND_SECONDS alone would let a toolbox that takes a byte now and then hold us for ever.
        """

        def give_up() -> None:
            if stream.answer is None and not stream.abandoned:
                self._end(f"the toolbox did not answer {stream.op!r} in time")

        timer = threading.Timer(threading.TIMEOUT_MAX if seconds is None else seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _send(self, frame: bytes) -> None:
        with self._sending:
            self._put(frame)

    def _put(self, frame: bytes) -> None:
        """Hand a frame to the transport. A frame that was interrupted, by ^C for one, leaves a pipe of no use."""
        try:
            self._transport.send(frame)
        except OSError as error:
            # The reader meets the end as well, and may learn why it came to that.
            if threading.current_thread() is not self._reader:
                self._reader.join(REASON_SECONDS)
            self._end(f"the pipe to the container broke: {error}")
            raise self._loss() from error
        except BaseException:
            self._end("interrupted while sending to the container")
            raise

    # --- the reader's side

    def _read(self) -> None:
        parser = frames.Parser()
        reason = "BUG: the reader of the pipe failed"
        try:
            while data := self._transport.recv():
                for id, kind, payload in parser.feed(data):
                    self._receive(id, kind, payload)
            reason = "the container ended"
        except frames.ProtocolError as error:
            reason = f"the toolbox broke the protocol: {error}"
        except OSError as error:
            self._out_of_memory = error.errno == errno.ENOMEM
            reason = f"the pipe to the container broke: {error.strerror or error}"
        finally:
            self._end(reason)

    def _receive(self, id: int, kind: int, payload: bytes) -> None:
        if id % 2 == 0 and self._on_tunnel is not None:
            self._receive_for_tunnel(id, kind, payload, self._on_tunnel)
            return
        with self._lock:
            stream = self._streams.get(id)
            if stream is None:
                raise frames.ProtocolError(f"a frame for stream {id}, which is not open")
            match kind:
                case frames.DATA:
                    stream.take(payload)
                case frames.CREDIT:
                    stream.grant(frames.decode_credit(payload))
                case frames.END:
                    stream.answer = _checked(frames.decode_json(payload))
                    del self._streams[id]
                case _:
                    raise frames.ProtocolError(f"kind {kind} is for the host alone")
            stream.wake()

    def _receive_for_tunnel(self, id: int, kind: int, payload: bytes, on_tunnel: Callable[[Tunnel], None]) -> None:
        if kind == frames.OPEN:
            self._open_tunnel(id, frames.decode_json(payload), on_tunnel)
            return
        if kind == frames.END or id == 0 or id > self._newest_tunnel:
            raise frames.ProtocolError(f"kind {kind} for tunnel {id}, which it cannot be for")
        with self._lock:
            # A tunnel that is not there any more: the toolbox had not seen our END yet.
            if tunnel := self._tunnels.get(id):
                tunnel.receive(kind, payload)

    def _open_tunnel(self, id: int, request: dict[str, Any], on_tunnel: Callable[[Tunnel], None]) -> None:
        if id <= self._newest_tunnel or request != {"op": "tunnel", "arguments": {}}:
            raise frames.ProtocolError(f"tunnel {id} cannot be opened")
        self._newest_tunnel = id
        tunnel = _Tunnel(self, id)
        with self._lock:
            if len(self._tunnels) >= frames.MAX_TUNNELS:
                raise frames.ProtocolError(f"more than {frames.MAX_TUNNELS} tunnels at once")
            self._tunnels[id] = tunnel

        def serve() -> None:
            # The job's end, or that of the process inside, is no fault of whoever serves it.
            with contextlib.closing(tunnel), contextlib.suppress(SandboxLost, BrokenPipeError):
                on_tunnel(tunnel)

        threading.Thread(target=serve, name=f"egress-{id // 2}", daemon=True).start()

    def _end(self, reason: str) -> None:
        """Close the pipe and wake everybody. The first reason stays; a second call does what ^C kept the first from."""
        with self._lock:
            self._lost = self._lost or reason
            for tunnel in self._tunnels.values():
                tunnel.wake()
            self._tunnels.clear()
            waiting = list(self._streams.values())
            self._streams.clear()
            for stream in waiting:
                stream.wake()
        self._transport.close()


class _Stream:
    """One request on the host's side. All of it is guarded by the channel's lock, but for `wait`."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.op = ""
        self.buffer = bytearray()
        """What came and was not collected yet; never more than a window."""
        self.allowance = frames.WINDOW
        """Bytes of DATA that the toolbox may still send."""
        self.consumed = 0
        self.credit = frames.WINDOW
        """Bytes of DATA that we may send."""
        self.answer: dict[str, Any] | None = None
        self.abandoned = False
        self._bell = threading.Lock()  # locked = nothing new; a lock is the cheapest thing to wait for
        self._bell.acquire()

    def take(self, payload: bytes) -> None:
        self.allowance -= len(payload)
        if not payload or self.allowance < 0:
            raise frames.ProtocolError("data past the credit" if payload else "empty data")
        if not self.abandoned:
            self.buffer += payload

    def grant(self, size: int) -> None:
        self.credit += size
        if size == 0 or self.credit > frames.MAX_CREDIT:
            raise frames.ProtocolError("credit that makes no sense")

    def collect(self) -> bytes:
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake already
            self._bell.release()

    def wait(self, deadline: float | None) -> None:
        """Until something came for this stream, or the deadline passed. ^C interrupts it at once."""
        if deadline is None:
            self._bell.acquire()
        else:
            self._bell.acquire(timeout=max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))


class _Tunnel:
    """A connection to the proxy port in the container; matches `base.Tunnel`. Sending b"" ends our side of it."""

    def __init__(self, channel: Channel, id: int) -> None:
        self._channel = channel
        self._id = id
        self._news = threading.Condition(channel._lock)
        """Guards all that follows."""
        self._buffer = bytearray()
        """What came and was not collected yet; never more than a window."""
        self._allowance = frames.TUNNEL_WINDOW
        """Bytes of DATA that the toolbox may still send."""
        self._consumed = 0
        self._credit = frames.TUNNEL_WINDOW
        """Bytes of DATA that we may send."""
        self._complete = False
        """The process sends no more."""
        self._gone = False
        """The process takes no more."""
        self._closed = False

    def recv(self) -> bytes:
        with self._news:
            self._news.wait_for(lambda: self._buffer or self._complete or self._closed or self._channel._lost)
            if not self._closed:
                self._channel._check()
            data = bytes(self._buffer)
            self._buffer.clear()
            self._consumed += len(data)
            granted = self._consumed if self._consumed >= frames.TUNNEL_WINDOW // 4 and not self._complete else 0
            self._consumed -= granted
            self._allowance += granted
        if granted:
            with contextlib.suppress(BrokenPipeError):  # closed meanwhile, and data is still data
                self._put(frames.encode_credit(self._id, granted))
        return data

    def send(self, data: bytes) -> None:
        if not data:
            self._put(frames.encode(self._id, frames.DATA))
        rest = memoryview(data)
        while rest:
            size = self._reserve(min(len(rest), frames.MAX_DATA))
            self._put(frames.encode(self._id, frames.DATA, bytes(rest[:size])))
            rest = rest[size:]

    def close(self) -> None:
        with self._news:
            if self._closed:
                return
            self._closed = True
            self._channel._tunnels.pop(self._id, None)
            self._news.notify_all()
        with contextlib.suppress(SandboxLost):
            self._channel._send(frames.encode_json(self._id, frames.END, {"answer": {}}))

    # --- for the channel, which holds its lock

    def receive(self, kind: int, payload: bytes) -> None:
        """Anything but OPEN and END. Raises ProtocolError."""
        match kind:
            case frames.DATA:
                self._allowance -= len(payload)
                if self._complete or self._allowance < 0:
                    raise frames.ProtocolError("data past the credit, or past its end")
                self._buffer += payload
                self._complete = not payload
            case frames.CREDIT:
                self._credit += (size := frames.decode_credit(payload))
                if size == 0 or self._credit > frames.MAX_CREDIT:
                    raise frames.ProtocolError("credit that makes no sense")
            case _:
                self._complete = self._gone = True
        self._news.notify_all()

    def wake(self) -> None:
        self._news.notify_all()

    # ---

    def _reserve(self, wanted: int) -> int:
        """Bytes that we may send now, at least one; waits for credit."""
        with self._news:
            self._news.wait_for(self._has_credit)
            size = min(wanted, self._credit)
            self._credit -= size
            return size

    def _put(self, frame: bytes) -> None:
        """Send a frame, unless the tunnel is closed: none may come after its END."""
        with self._channel._sending:
            with self._news:
                self._has_credit()
            self._channel._put(frame)

    def _has_credit(self) -> bool:
        """Raises BrokenPipeError or SandboxLost when nothing can be sent any more."""
        self._channel._check()
        if self._gone or self._closed:
            raise BrokenPipeError(errno.EPIPE, "the process in the container has closed its connection")
        return self._credit > 0


class _Stdin:
    """What is to be streamed, in pieces as large as there is room for."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._at = 0

    def take(self, most: int) -> bytes:
        """The next bytes, `most` at most; none at the end alone."""
        while self._at >= len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._chunk, self._at = chunk, 0
        piece = self._chunk[self._at : self._at + most]
        self._at += len(piece)
        return piece


def _checked(end: dict[str, Any]) -> dict[str, Any]:
    """An END as the protocol has it: one of an answer or an error, each an object."""
    match end:
        case {"answer": dict()} if len(end) == 1:
            return end
        case {"error": {"kind": str(), "message": str()}} if len(end) == 1:
            return end
    raise frames.ProtocolError("an END that is neither answer nor error")


def _unwrap(end: dict[str, Any]) -> dict[str, Any]:
    """The answer, or the error raised. The words of an error come from the container: bounded here, data to all."""
    if "answer" in end:
        answer: dict[str, Any] = end["answer"]
        return answer
    error = end["error"]
    message = error["message"][:MAX_MESSAGE]
    match error:
        case {"kind": "os", "errno": int(number)} if 0 < number < 4096:
            path = error.get("path")
            raise OSError(number, message, *([path[:MAX_MESSAGE]] if isinstance(path, str) else []))
        case {"kind": "unknown_task"}:
            raise KeyError(message)
    raise SandboxError(f"the toolbox refused: {message}")
