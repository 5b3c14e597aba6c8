"""Jobs for the loop: a scripted server behind the real SDK, a real toolbox, a real policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from runner.agents import AGENTS, Agent, AgentEnd, Context
from runner.agents.base import Clock
from runner.approvals import Answer, Ask
from runner.ledger import JobLedger, Ledger
from runner.models import Metered, RetryBudget, open_model
from runner.models.base import Model
from runner.models.script import ScriptedCall, ScriptedUsage, Trouble, Turn
from runner.models.scripted import ScriptedServer
from runner.policy import Policy
from runner.sandbox.base import Sandbox
from runner.task import Limits
from runner.transcript import Event

MODEL = "claude-sonnet-4-6"
"""A model with a known price."""
ANYTHING = Policy(version=1, mode="blacklist")

E = TypeVar("E", bound=Event)


@dataclass
class Job:
    """One job: its server, its agent, and what was recorded."""

    server: ScriptedServer
    model: Model
    context: Context
    agent: Agent
    events: list[Event] = field(default_factory=list)

    def run(self) -> AgentEnd:
        return self.agent.run(self.context)

    def recorded(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [received.body for received in self.server.requests]

    def answers(self, request: int) -> list[dict[str, Any]]:
        """The tool results in the last message of a request."""
        return [block for block in self.requests[request]["messages"][-1]["content"] if block["type"] == "tool_result"]

    def said(self, request: int) -> str:
        """The user's text in the last message of a request."""
        blocks = self.requests[request]["messages"][-1]["content"]
        return "\n".join(block["text"] for block in blocks if block["type"] == "text")


Start = Callable[..., Job]


def start_job(
    sandbox: Sandbox,
    turns: Sequence[Turn],
    *,
    policy: Policy = ANYTHING,
    limits: Limits | None = None,
    max_tokens: int = 8192,
    seconds: float = 60,
    retries: int = 3,
    prompt: str = "Fix it.",
    model: str = MODEL,
    ledger: Ledger | None = None,
    **context: Any,
) -> Job:
    """Close it with `server.stop` and `model.close`.

    `ledger` is that above the job's own; `context`: other fields of the agent's Context.
    """
    server = ScriptedServer(turns, model=model)
    server.start()
    variables = {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": server.key}
    budget = RetryBudget(tries=retries, seconds=30, first_wait_seconds=0.01)
    given_limits = limits or Limits()
    cap = None if given_limits.cost_usd is None else Decimal(str(given_limits.cost_usd))
    connected = Metered(
        open_model(f"anthropic:{model}", folder=Path(), variables=variables, budget=budget),
        JobLedger(cap, above=ledger),
    )
    events: list[Event] = []
    given = Context(
        prompt=prompt,
        sandbox=sandbox,
        model=connected,
        policy=policy,
        limits=given_limits,
        max_tokens=max_tokens,
        clock=context.pop("clock", None) or Clock(seconds),
        record=events.append,
        **context,
    )
    return Job(server=server, model=connected, context=given, agent=AGENTS["loop"](), events=events)


def says(text: str = "", **fields: Any) -> Turn:
    return Turn(text=text, **fields)


def calls(*tools: tuple[str, dict[str, Any]], **fields: Any) -> Turn:
    return Turn(tools=tuple(ScriptedCall(name=name, input=input) for name, input in tools), **fields)


def bash(command: str, **fields: Any) -> Turn:
    return calls(("Bash", {"command": command}), **fields)


def used(**tokens: int) -> ScriptedUsage:
    return ScriptedUsage(**tokens)


def fails(**trouble: Any) -> Turn:
    return Turn(fault=Trouble(**trouble))


def whitelist(*allow: str, deny: Sequence[str] = ()) -> Policy:
    return Policy.model_validate({"version": 1, "mode": "whitelist", "allow": [*allow], "deny": [*deny]})


def blacklist(*deny: str, ask: Sequence[str] = (), **more: Any) -> Policy:
    return Policy.model_validate({"version": 1, "mode": "blacklist", "deny": [*deny], "ask": [*ask]} | more)


def interactive(*allow: str, deny: Sequence[str] = (), **more: Any) -> Policy:
    return Policy.model_validate({"version": 1, "mode": "interactive", "allow": [*allow], "deny": [*deny]} | more)


class Person:
    """Answers in turn what it is asked, and remembers it; nothing more to say is a denial."""

    def __init__(self, *answers: Answer | BaseException) -> None:
        self._answers = list(answers)
        self.asked: list[Ask] = []

    def ask(self, question: Ask) -> Answer:
        self.asked.append(question)
        answer = self._answers.pop(0) if self._answers else NO
        if isinstance(answer, BaseException):
            raise answer
        return answer


ONCE = Answer(allowed=True, scope="once", by="ana")
FOR_JOB = Answer(allowed=True, scope="job", by="ana")
NO = Answer(allowed=False, scope="once", by="ana", reason="not now")
