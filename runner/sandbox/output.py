"""What becomes of a command's output on the host: secrets masked, head and tail kept, the rest in a log."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Self

from runner.errors import SandboxError
from runner.masking import StreamMasker

LOG_BYTES = 20_000_000
"""What a log holds of an output's beginning; of a longer one it has the tail after that."""


class Output:
    """A command's output, from the first byte that comes to the last.

    The toolbox sends the first `streamed` bytes as they come (all when None), and, when the command has ended, the
    newest ones: between the two bytes may be missing, and a part of a secret with them.
    """

    def __init__(self, mask: StreamMasker, *, streamed: int | None, kept: Kept, log: Log) -> None:
        self.received = 0
        self._mask = mask
        self._streamed = streamed
        self._newest = Tail(kept.tail_bytes)
        self._kept = kept
        self._log = log

    def add(self, data: bytes) -> None:
        fits = len(data) if self._streamed is None else max(0, self._streamed - self.received)
        self.received += len(data)
        self._pass_on(self._mask.feed(data[:fits]))
        self._newest.add(data[fits:])

    def finish(self, output_bytes: int) -> None:
        """The command has ended, and had so many bytes to say."""
        newest = self._newest.newest()
        passed_on = self.received if self._streamed is None else min(self.received, self._streamed)
        if (missing := output_bytes - passed_on - len(newest)) > 0:
            self._pass_on(self._mask.cut())
            self._kept.gap()
            self._log.gap(missing)
        self._pass_on(self._mask.feed(newest) + self._mask.end())
        self._log.finish()

    def _pass_on(self, data: bytes) -> None:
        self._kept.add(data)
        self._log.add(data)


class Kept:
    """Head and tail of an output of any length."""

    def __init__(self, head_bytes: int, tail_bytes: int) -> None:
        self.head = b""
        self.tail_bytes = tail_bytes
        self._head_bytes = head_bytes
        self._tail = Tail(tail_bytes)
        self._seen = 0
        self._has_gap = False

    def add(self, data: bytes) -> None:
        self._seen += len(data)
        missing = self._head_bytes - len(self.head)
        self.head += data[:missing]
        self._tail.add(data[missing:])

    def gap(self) -> None:
        """Bytes are missing here: what comes belongs to the tail."""
        self._head_bytes = len(self.head)
        self._has_gap = True

    @property
    def tail(self) -> bytes:
        return self._tail.newest()

    @property
    def truncated(self) -> bool:
        """Whether something is missing between head and tail."""
        return self._has_gap or self._seen > len(self.head) + len(self.tail)


class Tail:
    """The newest bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def add(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > 2 * self._limit:
            del self._buffer[: len(self._buffer) - self._limit]

    def newest(self) -> bytes:
        return bytes(self._buffer[-self._limit :]) if self._limit else b""


class Log:
    """An artifact with an output: the first LOG_BYTES, and, when it ends, the tail. Opened by the first byte."""

    def __init__(self, path: Path | None, tail_bytes: int) -> None:
        self.truncated = False
        self._path = path
        self._file: BinaryIO | None = None
        self._written = 0
        self._behind = 0
        """Bytes that there was no room for; the tail has the newest of them."""
        self._tail = Tail(tail_bytes)

    @property
    def name(self) -> str | None:
        """Relative to the job's folder, in which the folder of the logs lies; None when nothing was written."""
        return f"{self._path.parent.name}/{self._path.name}" if self._path is not None and self._written else None

    def add(self, data: bytes) -> None:
        if self._path is None or not data:
            return
        fits = max(0, LOG_BYTES - self._written)
        self._write(data[:fits])
        self._behind += len(data[fits:])
        self._tail.add(data[fits:])

    def gap(self, size: int) -> None:
        """So many bytes of the output will never come."""
        if self._path is None:
            return
        self.truncated = True
        if self._written < LOG_BYTES:
            self._write(_marker(size))
        else:
            self._behind += size

    def finish(self) -> None:
        """The output has ended."""
        tail = self._tail.newest()
        if self._behind > len(tail):
            self.truncated = True
            self._write(_marker(self._behind - len(tail)))
        self._write(tail)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, data: bytes) -> None:
        if not data:
            return
        assert self._path is not None
        try:
            if self._file is None:
                self._file = self._path.open("ab")
            self._file.write(data)
        except OSError as error:
            # Not an OSError of the command: those are raised as such.
            raise SandboxError(f"cannot write the log {self._path}: {error.strerror}") from error
        self._written += len(data)


def _marker(size: int) -> bytes:
    """What stands in a log for bytes that are not there."""
    return b"\n[%d bytes omitted]\n" % size
