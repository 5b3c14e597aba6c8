"""A sandbox over a channel: the methods of `base.Sandbox` as requests to the toolbox."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from runner.errors import ControlNotEnforced, SandboxLost
from runner.masking import Masker, StreamMasker
from runner.policy.contain import Grant
from runner.sandbox.base import REPO, BackgroundTask, ExecResult, FileInfo, Program, SandboxReport, Usage
from runner.sandbox.channel import Channel
from runner.sandbox.output import LOG_BYTES, Kept, Log, Output
from runner.sandbox.profile import landlock, refusal

TASK_OUTPUT_BYTES = 64_000
"""Newest output of a background task in one BackgroundTask."""
MAX_PATH = 64 * 1024
KEEP_SECONDS = 600.0
"""For the toolbox to copy what is kept, which may be as much as the workspace holds."""
MEASURE_SECONDS = 600.0
"""For the toolbox to look at every file of the workspace."""
TASK_LOOK_BYTES = 1 << 20
"""What the toolbox keeps of it between two looks."""
MAX_SECONDS = 604_800.0
GRACE_SECONDS = 30.0
"""Time that the toolbox has to answer beyond what it was asked to take; after it the sandbox is lost."""

_NO_MASK = Masker(())
"""What the toolbox's git and ripgrep say is data for the runner: packs, and paths that must be as they are."""


class Client:
    """Matches `base.Sandbox`. What each method does and raises is said there; here only what it leaves open."""

    def __init__(
        self,
        channel: Channel,
        *,
        report: SandboxReport,
        log_folder: Path | None,
        on_close: Callable[[], None],
        mask: tuple[str, ...] = (),
    ) -> None:
        """`hello` must have been said on the channel. `on_close` is called once, after the channel was closed.

        The values in `mask` are kept out of logs, and out of the output of programs that are not the toolbox's own.
        """
        self._report = report
        self._channel = channel
        self._log_folder = log_folder
        self._on_close: Callable[[], None] | None = on_close
        self._mask = Masker(mask)
        self._tasks: dict[str, _Task] = {}

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
        confined: bool = False,
    ) -> ExecResult:
        """Raises FileNotFoundError, or another OSError, when the directory or the program is not there."""
        seconds = min(seconds, MAX_SECONDS)
        streamed = None if on_output else max(head_bytes, LOG_BYTES if log else 0)
        arguments = {
            "program": program,
            "argv": [command] if isinstance(command, str) else list(command),
            "cwd": cwd,
            "variables": dict(variables or {}),
            "stdin": stdin != (),
            "seconds": seconds,
            "stream_bytes": streamed,
            "tail_bytes": tail_bytes,
            "separate_stderr": separate_stderr,
            "stderr_bytes": head_bytes,
            "confined": confined,
        }
        mask = _NO_MASK if program in ("git", "rg") else self._mask
        kept = Kept(head_bytes, tail_bytes)
        with self._log(log, tail_bytes) as artifact:
            output = Output(mask.stream(), streamed=streamed, kept=kept, log=artifact)

            def take(data: bytes) -> None:
                output.add(data)
                if on_output is not None:
                    on_output(data)

            ended = self._ask(_Ended, "exec", arguments, stdin=stdin, on_data=take, seconds=seconds + GRACE_SECONDS)
            output.finish(ended.output_bytes)
        stderr = mask.stream()
        return _exec_result(ended, output, kept, artifact, stderr.feed(ended.stderr_bytes()) + stderr.cut())

    def start(
        self, command: str, *, cwd: str = str(REPO), variables: Mapping[str, str] | None = None, log: str | None = None
    ) -> BackgroundTask:
        """Raises BlockingIOError when too many run already. The log gets what each look finds."""
        arguments = {"argv": [command], "cwd": cwd, "variables": dict(variables or {})}
        id = self._ask(_Started, "start_task", arguments).id
        self._tasks[id] = _Task(self._mask.stream(), self._log(log, 0))
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

    def measure(self) -> Usage:
        found = self._ask(_Measured, "measure", {}, seconds=MEASURE_SECONDS)
        return Usage(bytes=found.bytes, files=found.files)

    def confine(self, grants: Sequence[Grant]) -> None:
        """Raises also when under these grants not even the toolbox's git can run."""
        try:
            done = self._ask(_Confined, "confine", {"grants": [asdict(grant) for grant in grants]})
            if not done.enforced:
                raise ControlNotEnforced(refusal([landlock(done.landlock_abi, works=False)]))
            tried = self.exec(["--version"], program="git", cwd="/", confined=True)
        except OSError as error:
            raise ControlNotEnforced(f"commands cannot be confined to what the policy grants: {error}") from error
        if not tried.ok:
            said = tried.output.decode("utf-8", "replace").strip()[:200]
            raise ControlNotEnforced(f"under what the policy grants, commands cannot run: git --version: {said!r}")

    def keep(self, *, unreadable: Sequence[str], unwritable: Sequence[str]) -> None:
        """To be called once, while no command runs."""
        paths = {"unreadable": list(unreadable), "unwritable": list(unwritable)}
        self._ask(_Nothing, "keep", paths, seconds=KEEP_SECONDS)

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
        found = bytearray()
        state = self._ask(_TaskState, op, {"id": id}, on_data=self._collect(found, TASK_LOOK_BYTES))
        output = self._tasks[id].take(bytes(found), state)
        return BackgroundTask(
            id=id,
            running=state.running,
            output=output[-TASK_OUTPUT_BYTES:],
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

    def _log(self, name: str | None, tail_bytes: int) -> Log:
        folder = self._log_folder
        return Log(folder / name if folder is not None and name is not None else None, tail_bytes)


class _Task(NamedTuple):
    """Where the output of a background task goes."""

    mask: StreamMasker
    log: Log

    def take(self, found: bytes, state: _TaskState) -> bytes:
        """Log what a look found, and return it, masked."""
        with self.log as log:
            before = self.mask.cut() if state.dropped_bytes else b""
            log.add(before)
            if state.dropped_bytes:
                log.gap(state.dropped_bytes)
            after = self.mask.feed(found) + (b"" if state.running else self.mask.end())
            log.add(after)
        return before + after


def _exec_result(ended: _Ended, output: Output, kept: Kept, log: Log, stderr: bytes) -> ExecResult:
    truncated = kept.truncated
    return ExecResult(
        exit_code=ended.exit_code,
        signal=ended.signal,
        output=kept.head + kept.tail,
        stderr=stderr,
        output_bytes=max(ended.output_bytes, output.received),
        seconds=ended.seconds,
        timed_out=ended.timed_out,
        truncated=truncated,
        head_bytes=len(kept.head) if truncated else 0,
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


class _Confined(_Answer):
    landlock_abi: _Size
    enforced: bool


class _Measured(_Answer):
    bytes: _Size
    files: _Size


class _Nothing(_Answer):
    """An answer that only says that it is done."""
