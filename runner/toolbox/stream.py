"""One stream of the pipe, as the toolbox sees it: what arrives on it, and what it may send."""

from __future__ import annotations

import os

from . import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Receiver(Protocol):
        """Takes the DATA of a stream, and says by `Stream.consumed` what of it is dealt with."""

        def data(self, payload: bytes) -> None: ...
        def end(self) -> None: ...


class Refused(Exception):
    """An answer that is no answer. `kind` is one of os, unknown_task, bad_request; see docs/protocol.md."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Stream:
    """A request that has not been answered yet, or a tunnel."""

    def __init__(self, id: int, output: int, *, window: int = frames.WINDOW) -> None:
        self.id = id
        self.credit = window
        """Bytes of DATA that we may send."""
        self.receiver: Receiver | None = None
        self.on_credit: Callable[[], None] = lambda: None
        self.on_cancel: Callable[[], None] = lambda: None
        self.closed = False
        self._output = output
        self._window = self._allowance = window
        self._consumed = 0

    def take(self, payload: bytes) -> None:
        """DATA came in; an empty one is its end. Raises ProtocolError when it was not asked for, or is too much."""
        self._allowance -= len(payload)
        if self.receiver is None or self._allowance < 0:
            raise frames.ProtocolError("data past the credit, or that nobody asked for")
        if payload:
            self.receiver.data(payload)
        else:
            receiver, self.receiver = self.receiver, None
            receiver.end()

    def consumed(self, size: int) -> None:
        """`size` bytes of what came in are dealt with: the host may send as many more."""
        self._consumed += size
        if self._consumed >= self._window // 4 and not self.closed:
            self._allowance += self._consumed
            write(self._output, frames.encode_credit(self.id, self._consumed))
            self._consumed = 0

    def granted(self, size: int) -> None:
        """The host takes `size` bytes more. Raises ProtocolError when that is more than a window can ever be."""
        self.credit += size
        if size == 0 or self.credit > frames.MAX_CREDIT:
            raise frames.ProtocolError("credit that makes no sense")
        self.on_credit()

    def send(self, payload: bytes) -> None:
        """DATA to the host; never more than `credit`. On a tunnel an empty one is the end of it."""
        self.credit -= len(payload)
        write(self._output, frames.encode(self.id, frames.DATA, payload))

    def open(self, request: dict[str, Any]) -> None:
        """Begin a stream of our own."""
        write(self._output, frames.encode_json(self.id, frames.OPEN, request))

    def cancel(self) -> None:
        """Have the host end a stream of our own."""
        write(self._output, frames.encode(self.id, frames.CANCEL))

    def answer(self, answer: dict[str, Any]) -> None:
        """The end of a request that worked."""
        self._end({"answer": answer})

    def fail(self, error: Exception) -> None:
        """The end of a request that did not."""
        self._end({"error": describe(error)})

    def _end(self, value: dict[str, Any]) -> None:
        self.closed = True
        write(self._output, frames.encode_json(self.id, frames.END, value))


def describe(error: Exception) -> dict[str, Any]:
    """An error as the protocol words it."""
    if isinstance(error, OSError):
        path = error.filename
        text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
        return {"kind": "os", "errno": error.errno or 5, "message": error.strerror or str(error), "path": text}
    kind = error.kind if isinstance(error, Refused) else "bad_request"
    return {"kind": kind, "message": f"{error}" if isinstance(error, Refused) else f"{type(error).__name__}: {error}"}


def write(fd: int, data: bytes) -> None:
    """Write all. Blocks while the host does not read: it always reads, credit bounds what it must hold."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
