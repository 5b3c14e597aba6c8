"""A command as the toolbox sees it: pipes, a supervisor, and where the output goes."""

from __future__ import annotations

import json
import marshal
import os
import signal
import socket
from errno import EAGAIN

from . import frames, supervisor
from .stream import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .loop import Loop
    from .stream import Stream
    from .zygote import Zygote

    class Sink(Protocol):
        """Where output goes: `room` bytes at a time, 0 = not now; `take` gets at most that."""

        def room(self) -> int: ...
        def take(self, data: bytes) -> None: ...


PIPE_BYTES = 64 * 1024
"""What a pipe holds (pipe(7)): the most that may come after the last writer of ours is gone."""
MAX_CWD = 8192


class Tail:
    """The newest bytes of an endless output."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def append(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > 2 * self._limit:
            del self._buffer[: len(self._buffer) - self._limit]

    def newest(self) -> bytes:
        return bytes(self._buffer[-self._limit :]) if self._limit else b""

    def clear(self) -> None:
        self._buffer.clear()


class Head:
    """The first bytes of an endless output."""

    def __init__(self, limit: int) -> None:
        self.data = b""
        self._limit = limit

    def room(self) -> int:
        return frames.MAX_DATA

    def take(self, data: bytes) -> None:
        self.data += data[: self._limit - len(self.data)]


class Outflow:
    """Sends output as it comes, up to `limit` bytes (None: all); of the rest it counts, and keeps the tail."""

    def __init__(self, stream: Stream, *, limit: int | None, tail_bytes: int) -> None:
        self.total = 0
        self.sent = 0
        self._stream = stream
        self._limit = limit
        self._tail = Tail(tail_bytes)
        self._rest: bytes | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Nobody reads any more: swallow all."""
        self._cancelled = True

    def room(self) -> int:
        if self._cancelled or self._limit == self.sent:
            return frames.MAX_DATA
        left = frames.MAX_DATA if self._limit is None else min(frames.MAX_DATA, self._limit - self.sent)
        return min(left, self._stream.credit)

    def take(self, data: bytes) -> None:
        self.total += len(data)
        if self._cancelled:
            return
        if self._limit == self.sent:
            self._tail.append(data)
        else:
            self.sent += len(data)
            self._stream.send(data)

    def flush(self) -> bool:
        """Send the tail as far as credit goes; True when all is sent. Nothing may be taken after the first call."""
        if self._rest is None:
            self._rest = self._tail.newest()
        while self._rest and self._stream.credit and not self._cancelled:
            size = min(frames.MAX_DATA, self._stream.credit)
            self._stream.send(self._rest[:size])
            self._rest = self._rest[size:]
        return self._cancelled or not self._rest


class Store:
    """Keeps the newest output until somebody asks for it."""

    def __init__(self, limit: int) -> None:
        self._tail = Tail(limit)
        self._new = 0

    def room(self) -> int:
        return frames.MAX_DATA

    def take(self, data: bytes) -> None:
        self._new += len(data)
        self._tail.append(data)

    def collect(self) -> tuple[bytes, int]:
        """What is new and kept, and how many new bytes before it were dropped."""
        data, new = self._tail.newest(), self._new
        self._tail.clear()
        self._new = 0
        return data, new - len(data)


class Prepared:
    """A supervisor that waits for orders, and our ends of the pipes to it. Raises OSError when there are no more."""

    def __init__(self, zygote: Zygote) -> None:
        self._open: set[int] = set()
        try:
            stdin_end, self.stdin = self._pipe()
            self.output, stdout_end = self._pipe()
            self.errors, stderr_end = self._pipe()
            self.cwd, cwd_end = self._pipe()
            self.status, status_end = self._pipe()
            orders_end, self._orders = self._socket_pair()
            own_orders_end, self._supervisors_orders = self._pipe()
            theirs = supervisor.Ends(stdin_end, stdout_end, stderr_end, cwd_end, status_end, orders_end, own_orders_end)
            self.pid = zygote.supervisor(theirs)
        except OSError:
            self.close_all()
            raise
        self.close(*theirs.all())
        # Our ends must not block (see Loop.run), the command's must.
        for fd in (self.stdin, self.output, self.errors, self.cwd, self.status):
            os.set_blocking(fd, False)

    def start(self, launch: supervisor.Launch, ruleset: int | None) -> None:
        """Give the orders, and close the pipes that this command does not need."""
        try:
            self._send_orders(launch.dump(), ruleset)
            write(self._supervisors_orders, marshal.dumps(launch.seconds))
        except (BrokenPipeError, ConnectionResetError):
            self.close_all()
            raise OSError(EAGAIN, "the process that was to be the command is gone") from None
        self.close(self._orders, self._supervisors_orders)
        if not launch.stdin:
            self.close(self.stdin)
        if not launch.separate_stderr:
            self.close(self.errors)
        if not launch.track_cwd:
            self.close(self.cwd)

    def waits(self) -> bool:
        """False when the supervisor has died, or could not make its child: the status pipe is at its end then."""
        try:
            return bool(os.read(self.status, 1))
        except BlockingIOError:
            return True

    def has(self, fd: int) -> bool:
        """True until `fd` was closed."""
        return fd in self._open

    def close(self, *fds: int) -> None:
        for fd in self._open.intersection(fds):
            self._open.remove(fd)
            os.close(fd)

    def close_all(self) -> None:
        """Also ends a supervisor that has no orders yet."""
        self.close(*self._open)

    def _send_orders(self, orders: bytes, ruleset: int | None) -> None:
        fds = [] if ruleset is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, supervisor.FD.pack(ruleset))]
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=self._orders)
        try:
            sent = connection.sendmsg([orders], fds)
        finally:
            connection.detach()
        write(self._orders, orders[sent:])

    def _socket_pair(self) -> tuple[int, int]:
        """What a pipe cannot carry is a descriptor."""
        ends = tuple(end.detach() for end in socket.socketpair())
        self._open.update(ends)
        return ends[0], ends[1]

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open.update(ends)
        return ends


class Inflow:
    """Feeds what the host sends to a command's standard input, as fast as the command reads."""

    def __init__(self, loop: Loop, stream: Stream, pipes: Prepared) -> None:
        self._loop, self._stream, self._pipes, self._fd = loop, stream, pipes, pipes.stdin
        self._buffer = bytearray()
        self._ended = False

    def data(self, payload: bytes) -> None:
        self._buffer += payload
        self._write()

    def end(self) -> None:
        self._ended = True
        self._write()

    def close(self) -> None:
        """The command reads no more; what comes now is swallowed."""
        self._loop.unwatch(self._fd)
        self._pipes.close(self._fd)
        self._swallow()

    def _write(self) -> None:
        if not self._pipes.has(self._fd):
            self._swallow()
            return
        try:
            self._advance()
        except BlockingIOError:
            if not self._loop.watches(self._fd):
                self._loop.watch(self._fd, self._write, writable=True)
        except BrokenPipeError:
            self.close()

    def _advance(self) -> None:
        sent = 0
        try:
            while sent < len(self._buffer):
                sent += os.write(self._fd, self._buffer[sent : sent + frames.MAX_DATA])
        finally:
            del self._buffer[:sent]
            self._stream.consumed(sent)
        self._loop.unwatch(self._fd)
        if self._ended:
            self.close()

    def _swallow(self) -> None:
        self._stream.consumed(len(self._buffer))
        self._buffer.clear()


class Result:
    """How a command ended, in the words of its supervisor."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        """It could not be started."""
        self.ending = ""
        """exited, timed_out or cancelled; empty when the supervisor itself was killed."""
        self.status: int | None = None
        """Wait status of the first process; None when unknown."""
        self.seconds = 0.0
        self.gone = False
        """False: something of it may still run."""
        self.cwd = b""

    @property
    def exit_code(self) -> int | None:
        return os.WEXITSTATUS(self.status) if self.status is not None and os.WIFEXITED(self.status) else None

    @property
    def signal(self) -> int | None:
        if self.status is None:
            return int(signal.SIGKILL)
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    def read(self, line: bytes) -> None:
        """One line of the supervisor's report."""
        report: dict[str, Any] = json.loads(line)
        if "errno" in report:
            self.error = OSError(report["errno"], report["message"], report["path"])
        else:
            self.ending, self.status = report["ending"], report["status"]
            self.seconds, self.gone = report["seconds"], report["gone"]


class Command:
    """A started command. Calls `done(result)` once: when its tree is gone and what it wrote has been taken."""

    def __init__(
        self,
        loop: Loop,
        prepared: Prepared,
        launch: supervisor.Launch,
        *,
        ruleset: int | None,
        sink: Sink,
        errors: Sink,
        stdin: Stream,
        done: Callable[[Result], None],
    ) -> None:
        """`errors` and `stdin` are used if `launch` says so. Raises OSError when it cannot be started any more."""
        prepared.start(launch, ruleset)
        self._loop, self._pipes, self._done = loop, prepared, done
        self._result = Result()
        self._report = b""
        self._left: dict[int, int] | None = None
        """Once the tree is gone: bytes that each source may still give."""
        self._sinks = {prepared.output: sink}
        if launch.separate_stderr:
            self._sinks[prepared.errors] = errors
        self._inflow: Inflow | None = None
        if launch.stdin:
            stdin.receiver = self._inflow = Inflow(loop, stdin, prepared)
        loop.watch(prepared.status, self._read_report)
        self.resume()

    def end(self) -> None:
        """Have the whole tree killed; `done` follows."""
        if self._left is None:
            supervisor.send(self._pipes.pid, signal.SIGTERM)

    def resume(self) -> None:
        """A sink may have room again."""
        if self._left is not None:
            self._drain()
            return
        for fd, sink in self._sinks.items():
            if sink.room() and not self._loop.watches(fd):
                self._loop.watch(fd, lambda fd=fd: self._pump(fd))  # type: ignore[misc]

    def _pump(self, fd: int) -> None:
        """Take one piece of output. One only: a command that always writes must not keep the others waiting."""
        room = self._sinks[fd].room()
        if room == 0:
            self._loop.unwatch(fd)
        elif self._take(fd, room) == 0:
            self._loop.unwatch(fd)
            del self._sinks[fd]

    def _take(self, fd: int, most: int) -> int:
        """Bytes that went from a pipe to its sink: 0 at the end, -1 when there is nothing for now."""
        try:
            data = os.read(fd, most)
        except BlockingIOError:
            return -1
        if data:
            self._sinks[fd].take(data)
        return len(data)

    def _read_report(self) -> None:
        """The supervisor wrote a line, or is gone."""
        try:
            data = os.read(self._pipes.status, 4096)
        except BlockingIOError:
            return
        *lines, self._report = (self._report + data).split(b"\n")
        for line in lines:
            self._result.read(line)
        if not data or self._result.ending:
            self._loop.unwatch(self._pipes.status)
            self._stop_watching()
            self._drain()

    def _stop_watching(self) -> None:
        if self._inflow is not None:
            self._inflow.close()
        for fd in self._sinks:
            self._loop.unwatch(fd)
        # Somebody outside the tree may hold the pipe and write on; what the tree itself wrote is in it by now.
        self._left = dict.fromkeys(self._sinks, PIPE_BYTES)

    def _drain(self) -> None:
        """Take what the tree left in the pipes, as the sinks have room; then this command is done."""
        assert self._left is not None
        for fd in [fd for fd in self._left if self._drained(fd, self._left)]:
            del self._left[fd]
        if not self._left and self._pipes.has(self._pipes.status):
            self._result.cwd = self._last_cwd()
            self._pipes.close_all()
            self._done(self._result)

    def _drained(self, fd: int, left: dict[int, int]) -> bool:
        """False when the sink has no room now."""
        while left[fd] > 0:
            room = self._sinks[fd].room()
            if room == 0:
                return False
            size = self._take(fd, min(room, left[fd]))
            if size <= 0:
                break
            left[fd] -= size
        return True

    def _last_cwd(self) -> bytes:
        """What a shell script wrote about its directory when it ended, b"" when it did not."""
        if not self._pipes.has(self._pipes.cwd):
            return b""
        try:
            path = os.read(self._pipes.cwd, MAX_CWD)
        except BlockingIOError:
            return b""
        return path[:-1] if path.startswith(b"/") and path.endswith(b"\n") else b""
