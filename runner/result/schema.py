"""The result as it is written: `result.json`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer

from runner.errors import Outcome
from runner.messages import Usage
from runner.task import Limits

Usd = Annotated[Decimal, PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json")]
"""US dollars; a string of digits in JSON, never a float."""


class Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class JobFacts(BaseModel):
    """What `JobStarted.job` must hold for the result; it may hold more."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    id: str
    task: str
    """Name of the task."""
    repo: str
    base: str
    model: str
    limits: Limits | None = None
    hashes: dict[str, str] = {}
    """SHA-256 of the task file and the policy file."""


class DiffStat(Fact):
    files: int = 0
    insertions: int = 0
    deletions: int = 0
    paths: tuple[str, ...] = ()
    """Changed paths; bytes that are not UTF-8 are shown as U+FFFD."""


class CheckResult(Fact):
    command: str
    exit_code: int | None
    passed: bool
    timed_out: bool
    seconds: float
    log: str | None


class ModelCost(Fact):
    model: str
    """Exact id of the model that answered."""
    replies: int
    usage: Usage
    """All tokens, `wasted` included."""
    wasted: Usage = Usage()
    """Tokens of failed tries that are billed all the same."""
    cost_usd: Usd | None
    """None when the price is unknown."""


class Denial(Fact):
    turn: int
    tool: str
    subject: str
    rule: str | None
    where: str | None
    reason: str


class ControlState(Fact):
    """One hardening control: see `runner.sandbox.base.Control`."""

    name: str
    requested: str
    effective: str
    status: Literal["hard", "soft", "missing"]


class SandboxState(Fact):
    engine: str
    engine_version: str
    image: str
    image_digest: str
    toolbox_version: str
    controls: tuple[ControlState, ...]


class Artifact(Fact):
    path: str
    """Relative to the job folder."""
    bytes: int
    sha256: str


class JobResult(Fact):
    version: Literal[1] = 1
    job: str
    task: str
    outcome: Outcome
    reason: str
    """One line: which check, which limit, which rule, which error."""
    exit_code: int
    started_at: str
    ended_at: str
    repo: str
    base: str
    """Commit id that the work started from."""
    branch: str | None
    """The branch in the repository, or in `bundle`; None when the work was not delivered."""
    bundle: str | None = None
    """The artifact that holds the branch when there was no repository to write to."""
    commit: str | None
    """None when nothing differs from base."""
    commits: tuple[str, ...] = ()
    diff: DiffStat = DiffStat()
    notes: tuple[str, ...] = ()
    """What did not come out as the agent left it, and why."""
    checks: tuple[CheckResult, ...] = ()
    repair_rounds: int = 0
    """Rounds that were used."""
    model: str
    """As the task names it; `models` has the exact ids that answered."""
    models: tuple[ModelCost, ...] = ()
    usage: Usage = Usage()
    """Tokens of all models, failed tries included."""
    cost_usd: Usd | None
    """None when the price of a reply is unknown."""
    cost_complete: bool = True
    """False when something was used whose price is unknown: then the true cost is higher than what is said here."""
    limits: Limits | None = None
    turns: int = 0
    """Model replies."""
    tool_calls: dict[str, int] = {}
    """Calls per tool, denied ones included."""
    denials: tuple[Denial, ...] = ()
    sandbox: SandboxState | None
    final_message: str = ""
    seconds: float
    timings: dict[str, float] = {}
    """Seconds per phase (see `spans`), which add up to `seconds`; and of these `model` and `tools`."""
    hashes: dict[str, str] = {}
    """SHA-256 of the task file and the policy file; `transcript` is the hash of the transcript's last line."""
    artifacts: tuple[Artifact, ...] = ()
    """Every file of the job folder but result.json itself."""
