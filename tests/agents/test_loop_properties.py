"""What must hold whatever the model says and whatever its tokens are billed as."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.models.base import MIN_REPLY_TOKENS
from runner.models.script import ScriptedCall, Turn
from runner.sandbox.base import Sandbox
from runner.task import Limits
from runner.transcript import ModelReplied
from tests.agents.jobs import start_job, used
from tests.tools.sandboxes import toolbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with toolbox(tmp_path_factory.mktemp("toolbox")) as sandbox:
        yield sandbox


tools = st.lists(
    st.one_of(
        st.builds(ScriptedCall, name=st.sampled_from(["Read", "Nope", "a b"]), input=st.just({"file_path": "a.txt"})),
        st.builds(ScriptedCall, name=st.just("Bash"), json_text=st.sampled_from(["", "{", "[]", '{"command": 1}'])),
    ),
    max_size=3,
)
replies = st.lists(
    st.builds(
        Turn,
        text=st.sampled_from(["", " ", "Hm."]),
        thinking=st.sampled_from([None, "hm"]),
        tools=tools.map(tuple),
        stop_reason=st.sampled_from(
            ["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn", "stop_sequence", "x"]
        ),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(turns=replies)
def test_the_api_never_refuses_the_conversation(sandbox: Sandbox, turns: list[Turn]) -> None:
    """The scripted server refuses what the API would, a refused request raises, and nothing else here does."""
    job = start_job(sandbox, [*turns, Turn(text="Done.", repeat=20)], retries=0)
    try:
        ends = [job.run(), job.agent.resume(job.context, "Go on."), job.agent.resume(job.context, "And on.")]
    finally:
        job.model.close()
        job.server.stop()
    assert len(job.requests) == ends[-1].turns == len(job.recorded(ModelReplied))
    assert {end.reason for end in ends} <= {"done", "refusal", "no_answer"}


BILLED_FIRST = 6_000
"""Input tokens of the first request: less than its bytes."""


@st.composite
def billed(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Usages of one conversation, by any tokenizer whose tokens are a byte or longer, and any state of the cache."""
    usages = []
    counted = draw(st.integers(0, BILLED_FIRST))
    for _ in range(draw(st.integers(1, 8))):
        read = draw(st.integers(0, counted))
        written = draw(st.integers(0, counted - read))
        usages.append(
            {
                "input_tokens": counted - read - written,
                "cache_read_tokens": read,
                "cache_write_tokens": written,
                "output_tokens": draw(st.integers(0, MIN_REPLY_TOKENS)),
            }
        )
        # A call and its answer are more bytes than that.
        counted += draw(st.integers(0, 150))
    return usages


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(usages=billed(), cents=st.floats(1, 25), tokens=st.none() | st.integers(256, 3000))
def test_no_limit_is_overshot(sandbox: Sandbox, usages: list[dict[str, Any]], cents: float, tokens: int | None) -> None:
    call = ScriptedCall(name="Read", input={"file_path": "missing.txt"})
    turns = [Turn(tools=(call,), usage=used(**usage)) for usage in usages]
    limits = Limits(cost_usd=cents / 100, output_tokens=tokens, turns=len(turns))
    job = start_job(sandbox, turns, limits=limits, retries=0)
    try:
        end = job.run()
    finally:
        job.model.close()
        job.server.stop()
    assert end.cost_usd is not None
    assert end.cost_usd <= Decimal(str(limits.cost_usd))
    assert end.usage.output_tokens <= (tokens or 10**9)
    assert end.reason in {"limits.cost_usd", "limits.output_tokens", "limits.turns"}
    assert end.turns == len(job.requests)
