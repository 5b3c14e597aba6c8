"""Replies that are paid for come again at no cost; then the model goes on live."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from runner.ledger import JobLedger
from runner.messages import Reminder, Reply, Request, Retried, Text, Usage
from runner.models import Metered, NoReply, Playing, request_hash
from runner.models.base import Differs
from runner.models.script import Turn
from runner.transcript import ModelReplied
from tests.models.conftest import MODEL, ask

USAGE = Usage(input_tokens=1000, output_tokens=100)


def recorded(*requests: Request) -> list[ModelReplied]:
    """The replies `reply 1`, `reply 2` … to the requests."""
    return [
        ModelReplied(
            turn=turn,
            request_hash=request_hash(request),
            reply=Reply(
                content=(Text(text=f"reply {turn}"),), stop_reason="end_turn", usage=USAGE, wasted=USAGE, model=MODEL
            ),
            cost_usd=Decimal("0.0045"),
            seconds=1,
        )
        for turn, request in enumerate(requests, start=1)
    ]


@pytest.fixture
def told() -> list[tuple[int, str]]:
    return []


def test_recorded_replies_come_in_their_order_as_played_and_then_live_ones(bench: Callable[..., Any]) -> None:
    made = bench(Turn(text="live"))
    ledger = JobLedger(None)
    model = Playing(recorded(ask("1"), ask("2")), Metered(made.model, ledger), on_difference="stop")
    first, second = model.reply(ask("1")), model.reply(ask("2"))
    assert [(reply.text, reply.played, reply.usage) for reply in (first, second)] == [
        ("reply 1", True, USAGE),
        ("reply 2", True, USAGE),
    ]
    assert (ledger.spent, made.server.requests) == (0, [])
    third = model.reply(ask("3"))
    assert (third.text, third.played) == ("live", False)
    assert len(made.server.requests) == 1
    assert ledger.spent > 0


def test_reminders_are_no_part_of_the_question() -> None:
    reminded = ask("1").messages[0].model_copy(update={"content": (Text(text="1"), Reminder(text="little time"))})
    assert request_hash(ask("1").model_copy(update={"messages": (reminded,)})) == request_hash(ask("1"))
    said = reminded.model_copy(update={"content": (Text(text="1"), Text(text="little time"))})
    assert request_hash(ask("1").model_copy(update={"messages": (said,)})) != request_hash(ask("1"))


def test_a_played_reply_counts_at_its_turn_what_it_counted_then() -> None:
    assert Playing(recorded(ask()), None, on_difference="stop").reply(ask()).wasted == USAGE


def test_text_is_given_and_nothing_else_is_told() -> None:
    texts: list[str] = []
    retries: list[Retried] = []
    model = Playing(recorded(ask()), None, on_difference="stop")
    model.reply(ask(seconds=0, max_tokens=1), on_text=texts.append, on_retry=retries.append)
    assert (texts, retries) == (["reply 1"], [])


def test_without_a_live_model_there_is_no_reply_after_the_last() -> None:
    model = Playing(recorded(ask()), None, on_difference="go_on")
    model.reply(ask())
    with pytest.raises(NoReply, match="the recording ends with reply 1"):
        model.reply(ask())


def test_a_difference_can_end_it(told: list[tuple[int, str]]) -> None:
    model = Playing(
        recorded(ask("1"), ask("2")), None, on_difference="stop", diverged=lambda turn, what: told.append((turn, what))
    )
    model.reply(ask("1"))
    for _ in range(2):
        with pytest.raises(Differs, match="the request of turn 2 is not the recorded one"):
            model.reply(ask("two"))
    assert [turn for turn, _ in told] == [2]


def test_a_difference_can_be_told_and_passed_over(told: list[tuple[int, str]], bench: Callable[..., Any]) -> None:
    made = bench(Turn(text="live"))
    model = Playing(
        recorded(ask("1"), ask("2"), ask("3")),
        made.model,
        on_difference="go_on",
        diverged=lambda turn, what: told.append((turn, what)),
    )
    asked = ("1", "two", "three", "4")
    assert [model.reply(ask(text)).text for text in asked] == ["reply 1", "reply 2", "reply 3", "live"]
    ((turn, what),) = told
    assert turn == 2
    assert request_hash(ask("two"))[:12] in what
    assert request_hash(ask("2"))[:12] in what


def test_name_and_price_are_those_of_the_live_model_or_of_the_recording(bench: Callable[..., Any]) -> None:
    live = bench().model
    assert Playing([], live, on_difference="stop").name == f"anthropic:{MODEL}"
    assert Playing([], live, on_difference="stop").price == live.price is not None
    alone = Playing(recorded(ask()), None, on_difference="stop")
    assert (alone.name, alone.price) == (MODEL, live.price)
    nothing = Playing([], None, on_difference="stop")
    assert (nothing.name, nothing.price) == ("recording", None)
    alone.close()
    alone.close()
