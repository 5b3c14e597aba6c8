"""What a batch is made of: the values that its rooms pass to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runner.errors import Cause, Outcome, RunnerError
from runner.ledger import Ledger
from runner.transcript import AnyEvent

State = Literal["queued", "leased", "running", "checking", "ended"]
"""queued: waits for its turn. leased: some runner has it and prepares its sandbox. running: the agent works.
checking: what came out is checked. ended: it has an outcome, and is not done again unless a person asks for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One job of a batch, before it has begun. All of it is JSON: it lies in the store until the job's turn comes."""

    id: str
    """Of the job: its folder's name, and the end of its branch's. Unique in the batch, the same in every attempt."""
    key: str
    """SHA-256 over template, row and variation: a row that comes twice is one job."""
    title: str
    """One line for people: the issue's title, or the task's name."""
    source: str
    """Where it comes from: `issues.json:12`, `issues.csv:3`, `tasks/a.yaml`."""
    task_file: str
    """Absolute path of the task or template; paths in the task are seen from its folder."""
    task_sha256: str
    task: Mapping[str, Any]
    """The task as it was read, with its variation (`Task.model_dump(mode="json")`); templates not yet rendered."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What templates may use besides `task`, `job` and `vars`: `issue`, `row`, `comment`. Data, never a template."""
    notes: tuple[str, ...] = ()
    """What was taken out of the row's texts, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Ceilings of a whole batch, over all runners that work on it. None: no ceiling."""

    cost_usd: float | None = None
    jobs: int = 4
    """Agents that work at the same time, in one runner."""
    ahead: int = 1
    """Sandboxes that are prepared for the next jobs meanwhile."""
    jobs_per_minute: float | None = None
    """Begun, in one runner."""
    tokens_per_minute: int | None = None
    """Of input and output, as the provider counts them."""
    retries: int = 2
    """Further attempts at one job for causes that are ours or the outside's (see causes.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSpec:
    """What was asked for, once, at the beginning; a batch that is resumed goes on by it."""

    id: str
    source: str
    policy_file: str
    """Absolute path, or the name of one of ours."""
    policy_sha256: str
    limits: Limits = Limits()
    engine: str = "auto"
    engine_url: str | None = None
    on_difference: Literal["stop", "go_on"] = "go_on"
    """When a job that is played again does not ask what it asked then."""
    created_at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How an attempt at a job ended, as far as a batch cares; the job's result.json has the rest."""

    outcome: Outcome
    reason: str
    cause: Cause | None = None
    cost_micro_usd: int | None = 0
    """None: unknown."""
    seconds: float = 0.0
    branch: str | None = None
    turns: int = 0
    tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRow:
    """One job as the store has it."""

    number: int
    """From 1, in the order of the source."""
    planned: Planned
    state: State
    attempt: int
    """1 in the first; 0 before."""
    fresh: bool
    """Its next attempt begins anew, in place of going on with what earlier ones paid for."""
    fence: int
    """Grows with every lease; who holds an older one may write nothing any more."""
    owner: str
    lease_until: float
    """Seconds since the epoch."""
    not_before: float
    """Seconds since the epoch; it waits until then, after an attempt that failed."""
    tries: int
    """Attempts that failed for a cause that may be tried again."""
    ended: Ended | None
    """Of the last attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to do one job, until it expires or somebody else takes it."""

    job: JobRow
    fence: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """All that an executor needs to do a job once."""

    lease: Lease
    folder: Path
    """Of the job. Transcripts of earlier attempts lie in it, or below `attempts/`."""
    ledger: Ledger
    """The batch's; the job's own cap is not in it."""
    slot: Callable[[], AbstractContextManager[None]]
    """`with slot():` surrounds the agent's work, so that no more than `limits.jobs` agents work at a time; it waits.
    Raises Cancelled when the batch is stopped meanwhile."""
    enter: Callable[[State], None]
    """Tells the store that the job is `running` or `checking`. Raises Fenced when the lease is lost."""
    watch: Callable[[AnyEvent], None]
    """Sees every event of the job's transcript."""
    stopped: Callable[[], bool]
    """Whether the batch is stopped at once: the job is to be left as it is, to be resumed later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many jobs there are by state, and of those that have ended by outcome; what there is none of is left out."""

    states: Mapping[State, int]
    outcomes: Mapping[Outcome, int]

    @property
    def jobs(self) -> int:
        return sum(self.states.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What a whole batch has cost so far: money as its ledger has it, in micro-USD; the rest of each job's last
    attempt that came to an end."""

    spent: int
    reserved: int
    doubtful: int
    """May have been billed besides. Counts against the cap."""
    tokens: int
    turns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """A runner that works on a batch now."""

    owner: str
    """See `runner.sandbox.owner`."""
    jobs: int
    """That it holds."""
    lease_until: float
    """Seconds since the epoch: when the last of its leases ends, if it does not renew them."""


Execute = Callable[[Attempt], Ended]
"""Does a job once, however it goes. Raises Cancelled when it was left half-way, to be resumed, or returns that outcome;
raises Fenced and StoreError as they come. Any other error that it raises becomes the job's outcome."""


class Fenced(Exception):
    """The lease is lost: another runner has the job now, or it has ended. Nothing was written."""


class StoreError(RunnerError):
    """The batch's state cannot be read or written any more: the disk is full, or the file is damaged."""

    cause = "disk"


EventKind = Literal[
    "batch_started", "job_started", "job_event", "job_ended", "job_retried", "job_left", "slowed", "note", "batch_ended"
]
"""job_retried: an attempt failed for a cause that is not the job's, and another follows. job_left: the job was left
half-way, or another runner has it now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchEvent:
    """Something that happened in a batch, for whoever looks on. `--json` prints one a line."""

    kind: EventKind
    time: float
    """Seconds since the epoch."""
    job: str = ""
    """Id."""
    attempt: int = 0
    event: AnyEvent | None = None
    """Of `job_event`."""
    ended: Ended | None = None
    """Of `job_ended` and `job_retried`."""
    text: str = ""
    """One line for people; of a `note` about a bug, its traceback."""
    wait_seconds: float = 0.0
    """Until it is tried again."""
