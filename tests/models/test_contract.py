"""What every model must do, whatever is behind it: the same cases for a provider, a script and a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.errors import ConfigError, ModelError
from runner.messages import Opaque, Reply, Request, Text, ToolUse, Usage
from runner.models import PROVIDERS, Model, NoReply, RetryBudget, open_model, request_hash, warm
from runner.models.script import Script
from runner.models.scripted import ScriptedServer
from runner.task import PROVIDERS as PROVIDERS_OF_TASKS
from runner.transcript import ModelReplied, Transcript

MODEL = "claude-sonnet-4-6"
USAGE = {"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 30, "cache_write_tokens": 40}
SCRIPT: dict[str, Any] = {
    "version": 1,
    "model": MODEL,
    "turns": [
        {
            "thinking": "Where to begin?",
            "text": "I look at it – first at the tests. " * 30,
            "tools": [
                {"name": "Bash", "input": {"command": "pytest -q", "nested": {"list": [1, 2.5, None, True, "é"]}}},
                {"name": "Bash", "input": {}},
            ],
            "usage": USAGE,
        },
        {"tools": [{"name": "Bash", "json_text": '{"command": "half'}]},
        {"text": "Done.", "stop_reason": "max_tokens"},
    ],
}


@dataclass(frozen=True)
class Case:
    model: Model
    name: str


def budget() -> RetryBudget:
    return RetryBudget(tries=0, seconds=1)


def ask_all(model: Model, request: Request, go_on: Callable[..., Request]) -> list[tuple[Request, Reply]]:
    """The three requests of the script with their replies."""
    asked = []
    for _ in range(3):
        reply = model.reply(request)
        asked.append((request, reply))
        request = go_on(request, reply)
    return asked


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Script.model_validate(SCRIPT).turns, model=MODEL) as server:
        yield server


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "script.yaml").write_text(yaml.safe_dump(SCRIPT, allow_unicode=True))
    return tmp_path


@pytest.fixture
def recording(script: Path, ask: Callable[..., Request], go_on: Callable[..., Request]) -> Path:
    """A job folder as a run of the script leaves it."""
    model = open_model("scripted:script.yaml", folder=script, variables={}, budget=budget())
    job = script / "job-1"
    job.mkdir()
    with Transcript.open(job / "transcript.jsonl") as transcript:
        for turn, (request, reply) in enumerate(ask_all(model, ask(), go_on), start=1):
            hash = request_hash(request)
            transcript.record(
                ModelReplied(turn=turn, request_hash=hash, reply=reply, cost_usd=Decimal("0.1"), seconds=0.5)
            )
    model.close()
    return script


@pytest.fixture(params=["anthropic", "scripted", "replay"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    folder, variables = Path("nowhere"), {}
    match request.param:
        case "anthropic":
            server = request.getfixturevalue("server")
            variables = {"ANTHROPIC_API_KEY": server.key, "ANTHROPIC_BASE_URL": server.url}
            name = f"anthropic:{MODEL}"
        case "scripted":
            folder, name = request.getfixturevalue("script"), "scripted:script.yaml"
        case "replay":
            folder, name = request.getfixturevalue("recording"), "replay:job-1"
    model = open_model(name, folder=folder, variables=variables, budget=budget())
    yield Case(model, name)
    model.close()


def test_the_models_are_those_that_tasks_may_name() -> None:
    assert tuple(PROVIDERS) == PROVIDERS_OF_TASKS


def test_it_has_the_name_that_the_task_gave_it(case: Case) -> None:
    assert case.model.name == case.name


def test_it_has_the_price_of_the_model_that_answers(case: Case) -> None:
    assert case.model.price is not None
    assert case.model.price.output == 15


def test_a_reply_has_all_blocks_in_their_order(case: Case, ask: Callable[..., Request]) -> None:
    reply = case.model.reply(ask())
    thinking, text, first, second = reply.content
    assert isinstance(thinking, Opaque)
    assert thinking.block["thinking"] == "Where to begin?"
    assert text == Text(text="I look at it – first at the tests. " * 30)
    assert isinstance(first, ToolUse)
    assert first.input == SCRIPT["turns"][0]["tools"][0]["input"]
    assert isinstance(second, ToolUse)
    assert (second.input, second.invalid) == ({}, None)
    assert first.id != second.id
    assert reply.stop_reason == "tool_use"
    assert reply.model == MODEL


def test_a_reply_has_its_usage(case: Case, ask: Callable[..., Request]) -> None:
    reply = case.model.reply(ask())
    assert reply.usage == Usage(**USAGE)
    assert reply.wasted == Usage()


def test_a_conversation_goes_on_to_its_end(
    case: Case, ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    replies = [reply for _, reply in ask_all(case.model, ask(), go_on)]
    assert [reply.stop_reason for reply in replies] == ["tool_use", "tool_use", "max_tokens"]
    assert replies[1].tool_uses[0].invalid
    assert replies[2].text == "Done."


def test_text_is_given_as_it_comes(case: Case, ask: Callable[..., Request]) -> None:
    pieces: list[str] = []
    reply = case.model.reply(ask(), on_text=pieces.append)
    assert "".join(pieces) == reply.text


def test_replies_survive_the_transcript(case: Case, ask: Callable[..., Request]) -> None:
    reply = case.model.reply(ask())
    assert Reply.model_validate_json(reply.model_dump_json()) == reply


def test_after_the_end_there_is_no_reply(
    case: Case, ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    request, reply = ask_all(case.model, ask(), go_on)[-1]
    with pytest.raises(NoReply) as caught:
        case.model.reply(go_on(request, reply))
    assert isinstance(caught.value, ModelError)
    assert str(caught.value).startswith(case.name)
    assert "\n" not in str(caught.value)
    assert caught.value.last == caught.value.last_worst == Usage()


def test_closing_twice_does_no_harm(case: Case, ask: Callable[..., Request]) -> None:
    case.model.reply(ask())
    case.model.close()
    case.model.close()


@pytest.mark.parametrize("spec", ["", "gpt-5", "openai:gpt-5", "anthropic:", "scripted", ":x", "Anthropic:x"])
def test_other_words_for_a_model_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="model: must be one of anthropic:…, scripted:…, replay:…"):
        open_model(spec, folder=Path(), variables={}, budget=budget())


def test_a_money_limit_on_retries_needs_a_price() -> None:
    with pytest.raises(ConfigError, match=r"limits\.retry_cost_usd: .*anthropic:unheard-of"):
        open_model(
            "anthropic:unheard-of",
            folder=Path(),
            variables={"ANTHROPIC_API_KEY": "k"},
            budget=RetryBudget(tries=1, seconds=1, cost_usd=Decimal(1)),
        )


@pytest.mark.parametrize("spec", ["anthropic:x", "scripted:x", "replay:x", "other"])
def test_warming_never_fails(spec: str) -> None:
    warm(spec)
