"""A sandbox over a channel: the methods of `base.Sandbox` as requests to the toolbox."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, BinaryIO, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from runner.errors import SandboxError, SandboxLost
from runner.sandbox.base import REPO, BackgroundTask, ExecResult, FileInfo, Program, SandboxReport
from runner.sandbox.channel import Channel

LOG_BYTES = 20_000_000
"""What a log holds of an output's beginning; of a longer one it has the tail after that."""
TASK_OUTPUT_BYTES = 64_000
"""Newest output of a background task in one BackgroundTask."""
MAX_PATH = 64 * 1024
TASK_LOOK_BYTES = 1 << 20
"""What the toolbox keeps of it between two looks."""
MAX_SECONDS = 604_800.0
GRACE_SECONDS = 30.0
"""Time that the toolbox has to answer beyond what it was asked to take; after it the sandbox is lost."""


class Client:
    """Matches `base.Sandbox`. What each method does and raises is said there; here only what it leaves open."""

    def __init__(
        self, channel: Channel, *, report: SandboxReport, log_folder: Path | None, on_close: Callable[[], None]
    ) -> None:
        """`hello` must have been said on the channel. `on_close` is called once, after the channel was closed."""
        self._report = report
        self._channel = channel
        self._log_folder = log_folder
        self._on_close: Callable[[], None] | None = on_close
        self._task_logs: dict[str, _Log] = {}

    @property
    def report(self) -> SandboxReport:
        return self._report

    def exec(
        self,
        command: str | Sequence[str],
        *,
        program: Program = "shell",
        cwd: str = str(REPO),
        variables: Mapping[str, str] | None = None,
        stdin: Iterable[bytes] = (),
        seconds: float = 120.0,
        head_bytes: int = 16_000,
        tail_bytes: int = 16_000,
        log: str | None = None,
        on_output: Callable[[bytes], None] | None = None,
        separate_stderr: bool = False,
    ) -> ExecResult:
        """Raises FileNotFoundError, or another OSError, when the directory or the program is not there."""
        seconds = min(seconds, MAX_SECONDS)
        arguments = {
            "program": program,
            "argv": [command] if isinstance(command, str) else list(command),
            "cwd": cwd,
            "variables": dict(variables or {}),
            "stdin": stdin != (),
            "seconds": seconds,
            "stream_bytes": None if on_output else max(head_bytes, LOG_BYTES if log else 0),
            "tail_bytes": tail_bytes,
            "separate_stderr": separate_stderr,
            "stderr_bytes": head_bytes,
        }
        kept = _Kept(head_bytes, tail_bytes)
        with self._log(log, tail_bytes) as artifact:

            def take(data: bytes) -> None:
                kept.add(data)
                artifact.add(data)
                if on_output is not None:
                    on_output(data)

            ended = self._ask(_Ended, "exec", arguments, stdin=stdin, on_data=take, seconds=seconds + GRACE_SECONDS)
            artifact.finish(ended.output_bytes)
        return _exec_result(ended, kept, artifact)

    def start(
        self, command: str, *, cwd: str = str(REPO), variables: Mapping[str, str] | None = None, log: str | None = None
    ) -> BackgroundTask:
        """Raises BlockingIOError when too many run already. The log gets what each look finds."""
        arguments = {"argv": [command], "cwd": cwd, "variables": dict(variables or {})}
        id = self._ask(_Started, "start_task", arguments).id
        self._task_logs[id] = self._log(log, 0)
        return BackgroundTask(id=id, running=True, output=b"", exit_code=None, signal=None, seconds=0.0)

    def poll_task(self, id: str) -> BackgroundTask:
        return self._look_at_task("poll_task", id)

    def stop_task(self, id: str) -> BackgroundTask:
        return self._look_at_task("stop_task", id)

    def resolve(self, path: str) -> str:
        return self._ask(_Resolved, "resolve", {"path": path}).path

    def stat(self, path: str) -> FileInfo:
        found = self._ask(_Described, "stat", {"path": path})
        return FileInfo(kind=found.kind, size=found.size, mode=found.mode, modified=found.modified)

    def read_file(self, path: str, *, offset: int = 0, max_bytes: int = 10_000_000) -> bytes:
        content = bytearray()
        arguments = {"path": path, "offset": offset, "max_bytes": max_bytes}
        self._ask(_Nothing, "read", arguments, on_data=self._collect(content, max_bytes))
        return bytes(content)

    def write_file(self, path: str, data: bytes, *, expected_sha256: str | None = None) -> None:
        self._ask(_Nothing, "write", {"path": path, "expected_sha256": expected_sha256}, stdin=[data])

    def glob(self, pattern: str, *, root: str, limit: int) -> tuple[tuple[str, ...], bool]:
        """Absolute paths; `pattern` is relative to `root`. Raises OSError for a pattern that makes no sense."""
        found = self._ask(_Matched, "glob", {"pattern": pattern, "path": root, "limit": limit})
        return found.paths[:limit], found.more

    def end_processes(self) -> None:
        self._ask(_Nothing, "end_processes", {})

    def ping(self) -> None:
        """Return when the toolbox answers."""
        self._ask(_Nothing, "ping", {})

    def close(self) -> None:
        """End the pipe and with it the container. May be called twice."""
        on_close, self._on_close = self._on_close, None
        try:
            self._channel.close()
        finally:
            if on_close is not None:
                on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look_at_task(self, op: str, id: str) -> BackgroundTask:
        output = bytearray()
        state = self._ask(_TaskState, op, {"id": id}, on_data=self._collect(output, TASK_LOOK_BYTES))
        if id in self._task_logs:
            with self._task_logs[id] as log:
                log.add(_gap(state.dropped_bytes) + output)
        return BackgroundTask(
            id=id,
            running=state.running,
            output=bytes(output[-TASK_OUTPUT_BYTES:]),
            exit_code=state.exit_code,
            signal=state.signal,
            seconds=state.seconds,
        )

    def _ask(
        self,
        model: type[_Model],
        op: str,
        arguments: dict[str, Any],
        *,
        stdin: Iterable[bytes] = (),
        on_data: Callable[[bytes], object] | None = None,
        seconds: float = GRACE_SECONDS,
    ) -> _Model:
        answer = self._channel.request(op, arguments, stdin=stdin, on_data=on_data, seconds=seconds)
        try:
            return model.model_validate(answer)
        except ValidationError as error:
            raise self._broken(f"answer to {op!r}: {error.errors()[0]['msg']}") from error

    def _collect(self, content: bytearray, most: int) -> Callable[[bytes], None]:
        """What adds data to `content`, and does not believe that there is more than there can be."""

        def take(data: bytes) -> None:
            content.extend(data)
            if len(content) > most:
                raise self._broken(f"more than the {most} bytes asked for")

        return take

    def _broken(self, what: str) -> SandboxLost:
        self._channel.close()
        return SandboxLost(f"the toolbox broke the protocol: {what}")

    def _log(self, name: str | None, tail_bytes: int) -> _Log:
        folder = self._log_folder
        return _Log(folder / name if folder is not None and name is not None else None, tail_bytes)


class _Kept:
    """Head and tail of an output of any length."""

    def __init__(self, head_bytes: int, tail_bytes: int) -> None:
        self.head = b""
        self.received = 0
        self._head_bytes = head_bytes
        self._tail = _Tail(tail_bytes)

    def add(self, data: bytes) -> None:
        self.received += len(data)
        missing = self._head_bytes - len(self.head)
        self.head += data[:missing]
        self._tail.add(data[missing:])

    @property
    def tail(self) -> bytes:
        return self._tail.newest()


class _Tail:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def add(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > 2 * self._limit:
            del self._buffer[: len(self._buffer) - self._limit]

    def newest(self) -> bytes:
        return bytes(self._buffer[-self._limit :]) if self._limit else b""


class _Log:
    """An artifact with an output: the first LOG_BYTES, and, when it ends, the tail. Opened by the first byte."""

    def __init__(self, path: Path | None, tail_bytes: int) -> None:
        self.truncated = False
        self._path = path
        self._file: BinaryIO | None = None
        self._written = 0
        self._tail = _Tail(tail_bytes)

    @property
    def name(self) -> str | None:
        """Relative to the job's folder, in which the folder of the logs lies; None when nothing was written."""
        return f"{self._path.parent.name}/{self._path.name}" if self._path is not None and self._written else None

    def add(self, data: bytes) -> None:
        if self._path is None or not data:
            return
        fits = max(0, LOG_BYTES - self._written)
        self._write(data[:fits])
        self._tail.add(data[fits:])

    def finish(self, output_bytes: int) -> None:
        """The output has ended, with so many bytes in all."""
        tail = self._tail.newest()
        self.truncated = self._path is not None and output_bytes > self._written + len(tail)
        if self._path is not None:
            self._write(_gap(output_bytes - self._written - len(tail)) + tail)

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


def _gap(size: int) -> bytes:
    """What stands in a log for `size` bytes that are not there."""
    return b"\n[%d bytes omitted]\n" % size if size > 0 else b""


def _exec_result(ended: _Ended, kept: _Kept, log: _Log) -> ExecResult:
    output_bytes = max(ended.output_bytes, kept.received)
    head, tail = kept.head, kept.tail
    truncated = output_bytes > len(head) + len(tail)
    return ExecResult(
        exit_code=ended.exit_code,
        signal=ended.signal,
        output=head + tail,
        stderr=ended.stderr_bytes(),
        output_bytes=output_bytes,
        seconds=ended.seconds,
        timed_out=ended.timed_out,
        truncated=truncated,
        head_bytes=len(head) if truncated else 0,
        oom_killed=ended.oom_killed,
        over_quota=ended.over_quota,
        cwd=ended.cwd,
        log=log.name,
        log_truncated=log.truncated,
    )


# --- answers of the toolbox, see docs/protocol.md; nothing in them is trusted


def _checked_path(value: object) -> str:
    """A path as it comes: bytes that are not UTF-8 are lone surrogates, which pydantic's own `str` does not take."""
    if not isinstance(value, str) or len(value) > MAX_PATH:
        raise ValueError("not a path")
    return value


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


_Model = TypeVar("_Model", bound=_Answer)
_Path = Annotated[str, PlainValidator(_checked_path)]
_Size = Annotated[int, Field(ge=0, lt=2**63)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_ExitCode = Annotated[int, Field(ge=0, le=255)]
_Signal = Annotated[int, Field(ge=1, le=64)]


class _Ended(_Answer):
    exit_code: _ExitCode | None
    signal: _Signal | None
    seconds: _Seconds
    timed_out: bool
    oom_killed: bool
    over_quota: bool
    output_bytes: _Size
    cwd: _Path | None
    stderr: str

    def stderr_bytes(self) -> bytes:
        try:
            return base64.b64decode(self.stderr, validate=True)
        except (binascii.Error, ValueError) as error:
            raise SandboxLost("the toolbox broke the protocol: stderr that is not base64") from error


class _Started(_Answer):
    id: Annotated[str, Field(max_length=64)]


class _TaskState(_Answer):
    running: bool
    exit_code: _ExitCode | None
    signal: _Signal | None
    seconds: _Seconds
    timed_out: bool
    dropped_bytes: _Size


class _Resolved(_Answer):
    path: _Path


class _Described(_Answer):
    kind: Literal["file", "directory", "link", "other", "missing"]
    size: _Size = 0
    mode: _Size = 0
    modified: Annotated[float, Field(allow_inf_nan=False)] = 0.0


class _Matched(_Answer):
    paths: Annotated[tuple[_Path, ...], Field(strict=False)]
    more: bool


class _Nothing(_Answer):
    """An answer that only says that it is done."""
