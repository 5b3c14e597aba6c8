"""What an agent is: it works in a sandbox until it is done or stopped, and says how that came about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from runner.approvals.base import Approver, Nobody
from runner.egress.fetch import Fetch
from runner.messages import Usage
from runner.models.base import Model
from runner.policy import Policy
from runner.sandbox.base import Sandbox
from runner.task import Limits
from runner.transcript import AnyEvent

EndReason = Literal[
    "done",
    "limits.turns",
    "limits.seconds",
    "limits.cost_usd",
    "limits.output_tokens",
    "batch.cost_usd",
    "refusal",
    "no_answer",
]

Approve = Literal["every", "writes", "exec", "none"]
"""Calls that a person is asked about although the policy allows them. every: each call. writes: Write, Edit, and Bash,
which can write. exec: Bash. none: only what the policy asks about."""


class Clock:
    """Counts a job's seconds down; thread-safe enough for one agent."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What passes inside does not count."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._deadline += time.monotonic() - began


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """All an agent may use."""

    prompt: str
    """The task, rendered."""
    sandbox: Sandbox
    model: Model
    """It keeps to the caps on money by itself, and raises OverBudget at their end."""
    policy: Policy
    limits: Limits
    max_tokens: int
    clock: Clock
    """The job's time; it may be stopped while a person is asked."""
    approver: Approver = Nobody()
    """Whom to ask."""
    approve: Approve = "none"
    """Which calls need a person's word although the policy allows them."""
    mask: Callable[[str], str] = str
    """Takes secrets out of what a tool says, before the model or anybody sees it."""
    fetch: Fetch | None = None
    """Fetches pages of the web; None: there are none in this job."""
    confinement: str = ""
    """What the model is told of the folders that commands are held to when one is refused; empty: they are not."""
    notices: Callable[[], tuple[str, ...]] = tuple
    """What the model should know that no tool tells, such as refused connections; what was new since the last call."""
    job: str = ""
    """Id of the job; it begins the ids of its approvals."""
    events: Sequence[AnyEvent] = ()
    """What the job's transcript holds so far."""
    record: Callable[[AnyEvent], None]
    """Appends an event to the transcript."""


def masked(value: Any, mask: Callable[[str], str]) -> Any:
    """JSON values with every text in them masked."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {key: masked(item, mask) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, mask) for item in value]
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentEnd:
    """How the agent ended; the job's outcome is computed from evidence, of which this is one piece."""

    reason: EndReason
    message: str
    turns: int
    usage: Usage
    cost_usd: Decimal | None


class Agent(Protocol):
    """Works until done. Raises ModelError and SandboxError; everything else that can happen is an AgentEnd."""

    def run(self, context: Context) -> AgentEnd: ...

    def resume(self, context: Context, feedback: str) -> AgentEnd:
        """Go on with the same conversation after a repair round's feedback (failed checks); limits count on."""
        ...
