"""Requests to ask, and models that talk to scripted servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runner.messages import Message, Reply, Request, Text, ToolResult, ToolSpec
from runner.models import Governors, RetryBudget, Spool
from runner.models.anthropic import AnthropicModel
from runner.models.exchange import Exchange
from runner.models.script import Turn
from runner.models.scripted import ScriptedServer
from runner.models.secret import Secret

MODEL = "claude-sonnet-4-6"
BASH = ToolSpec(
    name="Bash",
    description="Runs a command.",
    input_schema={"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
)


def ask(
    text: str = "Fix it.",
    *,
    system: str = "Be brief.",
    seconds: float = 20,
    max_tokens: int = 1000,
    input_tokens: int = 0,
) -> Request:
    said = Message(role="user", content=(Text(text=text),))
    return Request(
        system=system,
        messages=(said,),
        tools=(BASH,),
        max_tokens=max_tokens,
        input_tokens=input_tokens,
        seconds=seconds,
    )


def go_on(request: Request, reply: Reply, answer: str = "ok") -> Request:
    """The request after `reply`, all of its calls answered."""
    results = tuple(ToolResult(tool_use_id=use.id, content=answer) for use in reply.tool_uses)
    return request.model_copy(
        update={
            "messages": (
                *request.messages,
                Message(role="assistant", content=reply.content),
                Message(role="user", content=results or (Text(text=answer),)),
            )
        }
    )


class Bench:
    """A scripted server and a model that talks to it."""

    def __init__(self, server: ScriptedServer, model: AnthropicModel, budget: RetryBudget) -> None:
        self.server = server
        self.model = model
        self.budget = budget


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """`bench(turns…)`; `retries`, `retry_seconds` and `cost_usd` are the budget's, the rest the model's."""
    made: list[Bench] = []

    def make(
        *turns: Turn | Callable[[Exchange], None],
        retries: int = 0,
        retry_seconds: float = 5,
        cost_usd: Any = None,
        silence: float = 5,
        key: str | None = None,
        spool: Spool | None = None,
        governors: Governors | None = None,
    ) -> Bench:
        server = ScriptedServer(turns, model=MODEL, key=key)
        server.start()
        budget = RetryBudget(tries=retries, seconds=retry_seconds, cost_usd=cost_usd, first_wait_seconds=0.001)
        model = AnthropicModel(
            f"anthropic:{MODEL}",
            MODEL,
            base_url=server.url,
            key=Secret(server.key),
            budget=budget,
            silence_seconds=silence,
            spool=spool,
            governors=governors,
        )
        made.append(Bench(server, model, budget))
        return made[-1]

    yield make
    for one in made:
        one.model.close()
        one.server.stop()


@pytest.fixture(name="ask")
def ask_fixture() -> Callable[..., Request]:
    return ask


@pytest.fixture(name="go_on")
def go_on_fixture() -> Callable[..., Request]:
    return go_on
