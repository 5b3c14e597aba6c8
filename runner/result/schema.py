"""The result as it is written: `result.json`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer

from runner.errors import Cause, Outcome
from runner.messages import Usage
from runner.task import Limits
from runner.transcript import Violation

Usd = Annotated[Decimal, PlainSerializer(lambda value: format(value, "f"), return_type=str, when_used="json")]
"""US dollars; a string of digits in JSON, never a float."""


class Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Resolved(BaseModel):
    """What a job that is one of many says of itself, besides."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    title: str = ""
    """One line for people: the issue's title."""
    source: str = ""
    """Where it comes from: `issues.json:12`."""


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
    resolved: Resolved = Resolved()


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
    kind: Literal["run", "fail_to_pass", "pass_to_pass"] = "run"
    on: Literal["base", "work", "as_left"] = "work"
    """base: before the agent's work. work: what came out, with all that steers checks as base has it. as_left: what
    came out, as it is. A command has passed when its runs on both of these have."""
    tampered: str = ""
    """What was found to have interfered with it."""


class Claim(Fact):
    """Something that the agent's last message says, beside what was observed."""

    text: str
    """The sentence."""
    about: Literal["tests", "testing", "fix", "commit", "file", "no_change"]
    """tests: that they pass. testing: that they were run. fix: that it works now. commit: that it was made. file: that
    it was changed. no_change: that there is none."""
    observed: str
    holds: bool | None
    """None: what was observed does not tell."""


class SnapshotState(Fact):
    """Where repository and setup of the agent's sandbox came from."""

    key: str
    """SHA-256 over all that it depends on."""
    made: bool
    """It was made by this job, for later ones."""
    seconds: float


class ModelCost(Fact):
    model: str
    """Exact id of the model that answered; `earlier attempts` for what those used besides the replies."""
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
    approval: str | None = None
    """Id of the question to a person that led to it; None: the policy alone."""


class Approval(Fact):
    """One question to a person."""

    id: str
    turn: int
    """0: it was about the diff, when the agent had ended."""
    call: str
    """What would be done, as rules would name it."""
    rule: str | None
    """The rule because of which it was asked; None: the mode, or `--approve`."""
    where: str | None
    why: str
    """Why it was asked."""
    allowed: bool | None
    """None: the job ended before the question was answered."""
    scope: Literal["once", "job"] | None
    by: str
    """`terminal`, the name of the user who answered, `timeout`, or `nobody`; "" when the job ended before."""
    reason: str
    """That was given with the answer."""
    seconds: float
    """From the question to the answer."""
    calls: int
    """Calls that it let through."""


class Approvals(Fact):
    asked: int = 0
    allowed: int = 0
    denied: int = 0
    """By a person, or because nobody answered in time."""
    questions: tuple[Approval, ...] = ()


class EgressUse(Fact):
    """What went to one port of one host in one phase."""

    phase: Literal["setup", "agent", "checks"]
    host: str
    port: int
    connections: int
    """That were let through."""
    refused: int
    bytes_sent: int
    """From the container."""
    bytes_received: int
    rule: str | None
    """The entry of the policy's list that let the last of them through."""
    reason: str
    """Why the last of those that were refused was; "" when none was."""


class Containment(Fact):
    """What was done so that the kernel holds the policy's path rules."""

    landlock: bool
    """False: not applied, which the policy lets be."""
    writable: tuple[str, ...]
    """Folders that commands may write to, in the repository."""
    hidden: tuple[str, ...]
    """Paths of the repository that were not brought in."""
    kept: tuple[str, ...]
    """Paths that belong to another user inside."""
    uncontained: tuple[str, ...]
    """Rules that the tools keep to, and commands are not held to."""


class GateState(Fact):
    """The last judgement of the diff, before it could become a branch."""

    violations: tuple[Violation, ...]
    """Empty: it passed."""


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
    title: str = ""
    """One line for people, of a job that is one of many: the issue's title."""
    source: str = ""
    """Where it comes from: `issues.json:12`."""
    outcome: Outcome
    reason: str
    """One line: which check, which limit, which rule, which error."""
    cause: Cause | None = None
    """What failed, when something of ours or the outside's did."""
    exit_code: int
    attempt: int = 1
    """Of this job; a later one goes on where the one before it ended."""
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
    tree: str = ""
    """Id of the commit's tree: equal exactly when all files are."""
    commits: tuple[str, ...] = ()
    diff: DiffStat = DiffStat()
    notes: tuple[str, ...] = ()
    """What did not come out as the agent left it, and why."""
    checks: tuple[CheckResult, ...] = ()
    """Those on base, then the last round on what came out."""
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
    """False when something was used whose price is unknown, or while something is doubtful: then the true cost may be
    higher than what is said here."""
    cost_doubtful_usd: Usd = Decimal(0)
    """At most so much more was billed for requests whose answers did not come whole, or were not seen."""
    played_replies: int = 0
    """Replies, of `turns`, that an earlier attempt paid for; they are in `usage` and `cost_usd` once."""
    diverged: tuple[int, ...] = ()
    """Turns in which the job, played again, did not ask what it had asked."""
    limits: Limits | None = None
    turns: int = 0
    """Model replies."""
    tool_calls: dict[str, int] = {}
    """Calls per tool, denied ones included."""
    denials: tuple[Denial, ...] = ()
    approvals: Approvals = Approvals()
    """What a person was asked."""
    unjudged: tuple[str, ...] = ()
    """Calls that ran although the policy could not read all of their commands: a blacklist lets such pass."""
    egress: tuple[EgressUse, ...] = ()
    """Connections through the proxy, and those that were refused."""
    contained: Containment | None = None
    """None: nothing was contained, because no agent came to work."""
    gate: GateState | None = None
    """None: no diff came to be judged."""
    sandbox: SandboxState | None
    snapshot: SnapshotState | None = None
    """None: repository and setup were brought in anew."""
    final_message: str = ""
    claims: tuple[Claim, ...] = ()
    """What can be compared of the final message, sentence by sentence."""
    seconds: float
    timings: dict[str, float] = {}
    """Seconds per phase (see `spans`), which add up to `seconds`; and of these `model`, `tools`, and where
    a person was asked, `approvals`."""
    hashes: dict[str, str] = {}
    """SHA-256 of the task file and the policy file; `transcript` is the hash of the transcript's last line."""
    artifacts: tuple[Artifact, ...] = ()
    """Every file of the job folder but result.json itself."""

    @property
    def judged(self) -> tuple[bool, ...]:
        """Of each command that was to pass on what came out, whether all of its runs there did."""
        failed = {(check.kind, check.command) for check in self.checks if check.on != "base" and not check.passed}
        return tuple((check.kind, check.command) not in failed for check in self.checks if check.on == "work")


class Incomplete(Fact):
    """What is known of a job whose transcript has no end, or is damaged: in place of a result."""

    job: str
    """Id, or the name of its folder."""
    task: str = ""
    title: str = ""
    source: str = ""
    problem: Literal["unfinished", "damaged"]
    """unfinished: it is still running, or was ended by force."""
    reason: str
    """One line: how far it came, or what is wrong in which line."""
    started_at: str = ""
    last_at: str = ""
    """Time of the last event."""
    turns: int = 0
    usage: Usage = Usage()
    cost_usd: Usd | None = None
    """So far; None: unknown."""
    cost_doubtful_usd: Usd = Decimal(0)
    cost_complete: Literal[False] = False
    """A request may have been under way."""
