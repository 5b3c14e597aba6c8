"""The transcript: an append-only, hash-chained JSONL file of typed events; everything else is computed from it.

Each line is one event as compact JSON with `seq` (from 1), `time` (UTC, ISO 8601) and `prev`, the SHA-256 of the line
before it (64 zeros for the first). A line is hashed without its newline. The hash of the last line is the hash of the
transcript.

    with Transcript.open(path, mask=(api_key,)) as transcript:
        transcript.record(JobStarted(job=...))
    events = read(path)
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from runner.errors import Cause, ConfigError, Outcome
from runner.masking import masker, valid_text
from runner.messages import Reply, Retried, ToolUse, Usage

FORMAT_VERSION = 1
NO_HASH = "0" * 64
"""`prev` of the first line, and the hash of an empty transcript."""


class Event(BaseModel):
    """Base of all events; `seq`, `time` and `prev` are filled in by the writer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: int = 0
    time: str = ""
    prev: str = ""


class JobStarted(Event):
    type: Literal["job_started"] = "job_started"
    version: int = FORMAT_VERSION
    """Version of the transcript's format."""
    job: dict[str, Any]
    """The resolved job, no secrets; `runner.result.JobFacts` says which keys it must hold."""


class Resumed(Event):
    """The job goes on where an earlier attempt at it ended: the replies that are paid for are played first."""

    type: Literal["resumed"] = "resumed"
    attempt: int
    """Of this one; the first attempt at a job is 1."""
    transcript: str
    """Hash of the transcript that is played."""
    replies: int
    """Paid replies in it."""
    replies_usage: Usage = Usage()
    """Of those replies, their failed tries included."""
    replies_cost_usd: Decimal | None = Decimal(0)
    """Of that usage; None when unknown."""
    usage: Usage = Usage()
    """What earlier attempts used besides those replies: failed requests, replies that are not played."""
    cost_usd: Decimal | None = Decimal(0)
    """Of that usage; None when unknown."""
    cost_doubtful_usd: Decimal = Decimal(0)
    """At most so much more was billed for a request whose answer a killed runner did not see."""


class Diverged(Event):
    """Played again, the job did not ask what it had asked: what a tool answered, or the task, differs from then."""

    type: Literal["diverged"] = "diverged"
    turn: int
    what: str


class SandboxOpened(Event):
    type: Literal["sandbox_opened"] = "sandbox_opened"
    purpose: Literal["agent", "checks"]
    report: dict[str, Any]


class SnapshotUsed(Event):
    """Repository and setup came from a snapshot, or were made into one."""

    type: Literal["snapshot_used"] = "snapshot_used"
    purpose: Literal["agent", "checks"]
    key: str
    """SHA-256 over all that it depends on."""
    made: bool
    """It was made now, for later jobs."""
    seconds: float


class SetupRan(Event):
    type: Literal["setup_ran"] = "setup_ran"
    command: str
    exit_code: int | None
    seconds: float
    output: str


class AgentPrompted(Event):
    """Text given to the model as the user: the task, failed checks, reminders; and the system prompt, once."""

    type: Literal["agent_prompted"] = "agent_prompted"
    text: str
    system: str | None = None
    tools: tuple[str, ...] = ()


class ModelReplied(Event):
    type: Literal["model_replied"] = "model_replied"
    turn: int
    request_hash: str
    """SHA-256 over system, messages and tools: replay compares it."""
    reply: Reply
    cost_usd: Decimal | None
    """Of this reply, `reply.wasted` included; None when the price is unknown."""
    seconds: float


class ModelRetried(Event):
    type: Literal["model_retried"] = "model_retried"
    turn: int
    retried: Retried
    cost_doubtful_usd: Decimal | None = Decimal(0)
    """At most so much more was billed for the try than its `usage` costs; None when unknown."""


class ModelFailed(Event):
    """A request came to its end without a reply: after its last try, at a limit, or because the job was cancelled."""

    type: Literal["model_failed"] = "model_failed"
    turn: int
    error: str
    wasted: Usage = Usage()
    """Of all its tries, known to be billed."""
    worst_usage: Usage = Usage()
    """Of the last one, where no ModelRetried tells of it: billed at the very most."""
    model: str = ""
    cost_usd: Decimal | None = None
    """Of `wasted`; None when unknown."""
    cost_doubtful_usd: Decimal | None = Decimal(0)
    """At most so much more was billed for that last try than is known; None when unknown."""


class ToolDecided(Event):
    type: Literal["tool_decided"] = "tool_decided"
    turn: int
    call: ToolUse
    allowed: bool
    """After a person's answer, where one was asked."""
    verdict: Literal["allow", "ask", "deny"] | None = None
    """The policy's own word."""
    approval: str | None = None
    """Id of the approval that settled it."""
    unjudged: bool = False
    """The policy could not understand all of it, and let it run: a blacklist does."""
    subjects: tuple[str, ...] = ()
    """What was judged, as rules would name it: `Bash(git status)`, `Read(/workspace/repo/a.py)`."""
    rule: str | None
    where: str | None
    """file:line of the rule."""
    reason: str


class ApprovalAsked(Event):
    """A person was asked. The job waits until it is answered, or the time is over."""

    type: Literal["approval_asked"] = "approval_asked"
    id: str
    turn: int
    call: str
    """As rules would name it: `Bash(pip install x)`."""
    input_sha256: str = ""
    """Of all that the call was given: two writes to one file are two questions."""
    rule: str | None
    where: str | None
    reason: str
    expires_seconds: float


class ApprovalAnswered(Event):
    type: Literal["approval_answered"] = "approval_answered"
    id: str
    allowed: bool
    scope: Literal["once", "job"]
    by: str
    """Who: `terminal`, the name of the user who ran `claw-runner approvals`, or `timeout`."""
    reason: str = ""
    seconds: float
    """From the question to the answer."""


class EgressTried(Event):
    """A command's connection through the proxy ended, or was refused."""

    type: Literal["egress_tried"] = "egress_tried"
    phase: Literal["setup", "agent", "checks"]
    host: str
    port: int
    address: str | None
    """That the runner connected to; None when it did not."""
    allowed: bool
    rule: str | None
    reason: str
    bytes_sent: int = 0
    """From the container."""
    bytes_received: int = 0
    seconds: float = 0.0


class Contained(Event):
    """What was done, before the agent began, so that the kernel holds the policy's path rules."""

    type: Literal["contained"] = "contained"
    landlock: bool
    """False: not applied, which the policy lets be."""
    writable: tuple[str, ...] = ()
    """Folders that commands may write to, in the repository."""
    hidden: tuple[str, ...] = ()
    """Paths of the repository that were not brought in."""
    kept: tuple[str, ...] = ()
    """Paths that belong to another user inside, so that commands cannot change (or read) them."""
    uncontained: tuple[str, ...] = ()
    """Rules that the tools keep to, and commands are not held to."""


class Violation(BaseModel):
    """One thing in a diff that the gate refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["path", "protected", "files", "bytes", "binary", "symlink", "mode", "submodule", "secret"]
    path: str = ""
    rule: str | None = None
    where: str | None = None
    reason: str


class GateRan(Event):
    """The diff was judged before it could become a branch."""

    type: Literal["gate_ran"] = "gate_ran"
    violations: tuple[Violation, ...]
    """Empty: it passed."""
    seconds: float = 0.0


class ToolRan(Event):
    """A tool call's answer as the model saw it; for a denied or invalid call `ran` is False."""

    type: Literal["tool_ran"] = "tool_ran"
    turn: int
    tool_use_id: str
    name: str
    ran: bool
    content: str
    is_error: bool
    seconds: float
    details: dict[str, Any] = Field(default_factory=dict)
    """Facts for people and replay: exit_code, signal, timed_out, truncated, log, path, bytes …"""


class AgentEnded(Event):
    type: Literal["agent_ended"] = "agent_ended"
    reason: str
    """`done`, `refusal`, `no_answer`, or the limit that was reached: `limits.turns`, `limits.seconds` …"""
    message: str = ""
    """The agent's last words."""


class BranchTaken(Event):
    """The agent's work came out of the sandbox, as far as it had got."""

    type: Literal["branch_taken"] = "branch_taken"
    commit: str | None
    """None when nothing differs from base."""
    tree: str = ""
    """Id of its tree: equal exactly when all files are."""
    base: str = ""
    """What it differs from: the task's base, or a commit on it with the user's uncommitted changes."""
    commits: tuple[str, ...]
    committed_by_runner: bool
    files: int
    insertions: int
    deletions: int
    paths: tuple[str, ...] = ()
    """Changed paths; bytes that are not UTF-8 are shown as U+FFFD."""
    notes: tuple[str, ...] = ()
    """What did not come out as the agent left it, and why."""


class CheckRan(Event):
    type: Literal["check_ran"] = "check_ran"
    round: int
    command: str
    exit_code: int | None
    timed_out: bool
    seconds: float
    output: str
    log: str | None = None
    """The full output: an artifact, relative to the job folder."""
    kind: Literal["run", "fail_to_pass", "pass_to_pass"] = "run"
    on: Literal["base", "work", "as_left"] = "work"
    """base: before the agent's work. work: what came out, with all that steers checks as base has it. as_left: what
    came out, as it is."""
    tampered: str = ""
    """Why its verdict is no verdict: what was found to have interfered with it."""


class BranchDelivered(Event):
    """The work is where the user finds it."""

    type: Literal["branch_delivered"] = "branch_delivered"
    branch: str
    bundle: str | None
    """The artifact that holds the branch when there was no repository to write to."""


class JobEnded(Event):
    type: Literal["job_ended"] = "job_ended"
    outcome: Outcome
    reason: str
    exit_code: int | None = None
    """None: the outcome's own; given for a signal other than SIGINT."""
    cause: Cause | None = None
    """What failed, when something of ours or the outside's did."""


AnyEvent = Annotated[
    JobStarted
    | Resumed
    | Diverged
    | SandboxOpened
    | SnapshotUsed
    | SetupRan
    | AgentPrompted
    | ModelReplied
    | ModelRetried
    | ModelFailed
    | ToolDecided
    | ToolRan
    | ApprovalAsked
    | ApprovalAnswered
    | EgressTried
    | Contained
    | GateRan
    | AgentEnded
    | BranchTaken
    | CheckRan
    | BranchDelivered
    | JobEnded,
    Field(discriminator="type"),
]


_E = TypeVar("_E", bound=Event)


def of_kind(events: Iterable[AnyEvent], kind: type[_E]) -> list[_E]:
    """The events of one type, in order."""
    return [event for event in events if isinstance(event, kind)]


class TranscriptError(ConfigError):
    """A transcript is not what was written. The message reads `file:line: what is wrong`."""


class _Position(NamedTuple):
    """Where the transcript stands after a whole line."""

    seq: int = 0
    end: int = 0
    hash: str = NO_HASH


class Transcript:
    """Writes a transcript. Every event is in the file when `record` returns, and on the disk where money was spent.

    Thread-safe. A record that fails or is interrupted half way leaves no trace: the file stays a valid transcript.
    """

    def __init__(self, file: int, mask: tuple[str, ...]) -> None:
        self._file = file
        self._mask = masker(mask)
        self._lock = threading.Lock()
        self._last = self._next = _Position()

    @classmethod
    def open(cls, path: Path, *, mask: tuple[str, ...] = ()) -> Self:
        """Begin a new transcript. Raises FileExistsError: one job, one transcript."""
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        return cls(file, mask)

    @property
    def hash(self) -> str:
        """Of the last line."""
        with self._lock:
            if self._file >= 0:
                self._settle()
            return self._last.hash

    def record(self, event: Event) -> None:
        """Append one event; `seq`, `time` and `prev` are ours. Raises OSError when it cannot be written."""
        with self._lock:
            self._settle()
            line = self._line(event)
            self._next = _Position(self._last.seq + 1, self._last.end + len(line) + 1, _sha256(line))
            try:
                _write_all(self._file, line + b"\n")
            finally:
                self._settle()
            if isinstance(event, ModelReplied | ModelRetried | ModelFailed | JobEnded):
                os.fsync(self._file)

    def as_recorded(self, event: AnyEvent) -> AnyEvent:
        """The event as the file has it: every secret masked."""
        return _ANY_EVENT.validate_python(_plain(event, self._mask))

    def _line(self, event: Event) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        fields = _plain(event, self._mask) | {"seq": self._last.seq + 1, "time": now, "prev": self._last.hash}
        return valid_text(json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)).encode()

    def _settle(self) -> None:
        """Let the file say how far we are: a signal may end `record` between the write and our noting it."""
        end = os.fstat(self._file).st_size
        if end == self._next.end:
            self._last = self._next
        elif end != self._last.end:
            os.ftruncate(self._file, self._last.end)

    def close(self) -> None:
        with self._lock:
            if self._file >= 0:
                file, self._file = self._file, -1
                try:
                    os.fsync(file)
                finally:
                    os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


DEEPEST = 64
"""Levels of nesting that are kept. A model's arguments may be nested deeper than any JSON reader goes."""


def _plain(value: Any, mask: Callable[[str], str], depth: int = 0) -> Any:
    """An event as JSON values: every string masked but the format's own words, nothing that JSON cannot say."""
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if depth > DEEPEST:
        return "…"
    if isinstance(value, BaseModel):
        return {
            name: getattr(value, name) if own else _plain(getattr(value, name), mask, depth + 1)
            for name, own in _fields(type(value))
        }
    if isinstance(value, Mapping):
        return {mask(str(key)): _plain(item, mask, depth + 1) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item, mask, depth + 1) for item in value]
    raise TypeError(f"BUG: {type(value).__name__} in an event")


@cache
def _fields(model: type[BaseModel]) -> tuple[tuple[str, bool], ...]:
    """Names of a model's fields, and whether each holds one of the format's own words (`type`, `outcome` …)."""
    return tuple((name, _is_word(field.annotation)) for name, field in model.model_fields.items())


def _is_word(annotation: Any) -> bool:
    """Whether it is a Literal, or that or None."""
    kinds = [part for part in get_args(annotation) if part is not type(None)]
    return get_origin(annotation) is Literal or [get_origin(kind) for kind in kinds] == [Literal]


LONGEST_LINE = 256_000_000
"""Bytes. Nothing we write comes near; a file that has one is not a transcript."""

_ANY_EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class Reader:
    """Iterates over the events of a transcript and checks the chain on the way.

    Raises TranscriptError, naming the line, at the first that is damaged. A last line without its end (the writer was
    killed in the middle of it) is not an event and no damage: `torn_bytes` says how long it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hash = NO_HASH
        """Of the last line read."""
        self.torn_bytes = 0

    def __iter__(self) -> Iterator[AnyEvent]:
        self.hash, self.torn_bytes = NO_HASH, 0
        with self.path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
                if not line.endswith(b"\n"):
                    self.torn_bytes = len(line)
                    if file.read(1):
                        raise self._damage(number, f"longer than {LONGEST_LINE:,} bytes")
                    return
                yield self._event(number, line[:-1])

    def _event(self, number: int, line: bytes) -> AnyEvent:
        try:
            event = _ANY_EVENT.validate_json(line)
        except ValidationError as error:
            raise self._damage(number, f"not an event: {first_problem(error)}") from None
        if event.seq != number:
            raise self._damage(number, f"seq is {event.seq}, not {number}: lines are missing, doubled or out of order")
        if event.prev != self.hash:
            raise self._damage(number, "prev is not the hash of the line before: one of the two was changed")
        self.hash = _sha256(line)
        return event

    def _damage(self, number: int, what: str) -> TranscriptError:
        return TranscriptError(f"{self.path}:{number}: {what}")


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's complaints on one line: `key.key: what is wrong`."""
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]


def read(path: Path) -> tuple[AnyEvent, ...]:
    """All events of a transcript, the chain checked. Raises TranscriptError; a torn last line is left out."""
    return tuple(Reader(path))
