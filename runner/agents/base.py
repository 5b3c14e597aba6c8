"""What an agent is: it works in a sandbox until it is done or stopped, and says how that came about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

from runner.messages import Usage
from runner.models.base import Model
from runner.policy import Policy
from runner.sandbox.base import Sandbox
from runner.task import Limits
from runner.transcript import AnyEvent

EndReason = Literal[
    "done", "limits.turns", "limits.seconds", "limits.cost_usd", "limits.output_tokens", "refusal", "no_answer"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """All an agent may use."""

    prompt: str
    """The task, rendered."""
    sandbox: Sandbox
    model: Model
    policy: Policy
    limits: Limits
    max_tokens: int
    deadline: float
    """time.monotonic() at which the job's time is over."""
    record: Callable[[AnyEvent], None]
    """Appends an event to the transcript."""


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
