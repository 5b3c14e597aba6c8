"""What the earlier attempts at a job have paid for: every try once, wherever its runner died."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from runner.errors import ConfigError
from runner.messages import LongInputPrice, Price, Reply, Retried, Text, ToolUse, Usage
from runner.models import SPOOL, Earlier, Spool, recorded_of
from runner.models.exchange import event
from runner.models.spool import SpoolHeader
from runner.transcript import (
    AgentPrompted,
    Event,
    JobStarted,
    ModelFailed,
    ModelReplied,
    ModelRetried,
    Resumed,
    Transcript,
)

PRICE = Price(input=Decimal(3), output=Decimal(15), cache_read=Decimal("0.3"), cache_write=Decimal("3.75"))
USAGE = Usage(input_tokens=1000, output_tokens=100)
COST = 4500
"""Micro-USD of that."""
KNOWN = Usage(input_tokens=1000, output_tokens=1)
WORST = Usage(input_tokens=1000, output_tokens=1001)
DOUBT = 15_000


def replied(text: str, *, played: bool = False, wasted: Usage | None = None) -> ModelReplied:
    """The request's hash is the text."""
    reply = Reply(
        content=(Text(text=text),),
        stop_reason="end_turn",
        usage=USAGE,
        wasted=wasted or Usage(),
        model="m",
        played=played,
    )
    return ModelReplied(turn=1, request_hash=text, reply=reply, cost_usd=PRICE.cost_usd(USAGE), seconds=1)


def retried(attempt: int = 1) -> ModelRetried:
    failed = Retried(attempt=attempt, cause="cut", status=None, wait_seconds=1, usage=KNOWN, worst_usage=WORST)
    return ModelRetried(turn=1, retried=failed)


def failed(wasted: Usage = KNOWN, worst: Usage = KNOWN) -> ModelFailed:
    return ModelFailed(turn=1, error="cut", wasted=wasted, worst_usage=worst)


def resumed(attempt: int = 2) -> Resumed:
    return Resumed(attempt=attempt, transcript="", replies=0)


def attempt(folder: Path, *events: Event) -> Path:
    """The transcript of one attempt, in a folder of its own."""
    folder.mkdir()
    path = folder / "transcript.jsonl"
    with Transcript.open(path) as transcript:
        for one in (JobStarted(job={}), *events):
            transcript.record(one)
    return path


def spool(transcript: Path, hash: str, *, events: int = 5, attempt: int = 1, tool_id: str = "toolu_new") -> None:
    """What a runner left that was killed after so many events of the reply to that request; 5 are all."""
    header = SpoolHeader(
        request_hash=hash, attempt=attempt, model="m", max_tokens=1001, worst_usage=WORST, micro_usd=20_000
    )
    counts = {"input_tokens": 1000, "output_tokens": 1}
    call = {"type": "tool_use", "id": tool_id, "name": "Bash", "input": {}}
    stream = [
        event("message_start", message={"id": "msg_1", "model": "m", "usage": counts}),
        event("content_block_start", index=0, content_block=call),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 100}),
        event("message_stop"),
    ]
    left = Spool(transcript.with_name(SPOOL))
    left.begin(header)
    list(left.keep(stream[:events]))
    left.end()
    left.close()


def texts(earlier: Earlier) -> list[str]:
    return [one.reply.text for one in earlier.replies]


# -- what can be played


def test_without_an_earlier_attempt_there_is_nothing() -> None:
    assert recorded_of([], price=PRICE) == Earlier()


def test_the_replies_of_an_attempt_come_in_their_order(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"), replied("b"))
    assert recorded_of([path], price=PRICE) == Earlier(replies=recorded_of([path], price=PRICE).replies, spent=2 * COST)
    assert texts(recorded_of([path], price=PRICE)) == ["a", "b"]


def test_an_attempt_that_died_while_it_played_forgets_nothing(tmp_path: Path) -> None:
    first = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"), replied("b"))
    second = attempt(tmp_path / "2", resumed(), AgentPrompted(text=""), replied("a", played=True))
    earlier = recorded_of([first, second], price=PRICE)
    assert texts(earlier) == ["a", "b"]
    assert (earlier.spent, earlier.usage) == (2 * COST, Usage())


def test_an_attempt_that_went_on_is_the_one_to_play(tmp_path: Path) -> None:
    first = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"))
    second = attempt(tmp_path / "2", resumed(), AgentPrompted(text=""), replied("a", played=True), replied("b"))
    earlier = recorded_of([first, second], price=PRICE)
    assert texts(earlier) == ["a", "b"]
    assert (earlier.spent, earlier.usage, earlier.cost_usd) == (2 * COST, Usage(), 0)


def test_what_came_before_an_attempt_that_began_anew_is_paid_for_and_not_played(tmp_path: Path) -> None:
    first = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"), replied("b"))
    second = attempt(tmp_path / "2", AgentPrompted(text=""), replied("c"))
    earlier = recorded_of([first, second], price=PRICE)
    assert texts(earlier) == ["c"]
    assert (earlier.spent, earlier.usage, earlier.cost_usd) == (3 * COST, USAGE + USAGE, Decimal("0.009"))


def test_an_attempt_that_died_before_its_agent_began_changes_nothing(tmp_path: Path) -> None:
    first = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"))
    second = attempt(tmp_path / "2")
    assert texts(recorded_of([first, second], price=PRICE)) == ["a"]


def test_a_torn_last_line_is_no_damage_and_anything_else_is(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"), replied("b"))
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    assert texts(recorded_of([path], price=PRICE)) == ["a"]
    path.write_bytes(data.replace(b'"text":"a"', b'"text":"b"'))
    with pytest.raises(ConfigError, match=r"transcript\.jsonl:4: prev"):
        recorded_of([path], price=PRICE)


# -- what was paid


def test_failed_tries_are_paid_for_and_their_doubt_is_kept(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", retried(1), retried(2), replied("a", wasted=KNOWN + KNOWN))
    earlier = recorded_of([path], price=PRICE)
    assert (earlier.spent, earlier.doubtful) == (2 * 3015 + COST, 2 * DOUBT)
    assert (earlier.usage, earlier.cost_usd) == (Usage(), 0)


def test_a_request_that_failed_is_paid_for_once(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", retried(1), failed(KNOWN + KNOWN))
    earlier = recorded_of([path], price=PRICE)
    assert (earlier.spent, earlier.doubtful) == (2 * 3015, DOUBT)
    assert (earlier.usage, earlier.cost_usd) == (KNOWN + KNOWN, Decimal("0.00603"))


def test_what_the_last_try_of_a_failed_request_may_have_cost_is_in_doubt(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", AgentPrompted(text=""), retried(1), failed(KNOWN + KNOWN, WORST))
    spool(path, "a", attempt=2)
    earlier = recorded_of([path], price=PRICE)
    assert (earlier.spent, earlier.doubtful) == (2 * 3015, 2 * DOUBT)
    assert earlier.replies == (), "the event counts, not the spool beside it"


def test_each_try_is_rounded_up_by_itself(tmp_path: Path) -> None:
    price = PRICE.model_copy(update={"input": Decimal("0.0003"), "output": Decimal(0)})
    path = attempt(tmp_path / "1", retried(), replied("a", wasted=KNOWN), replied("b"))
    assert recorded_of([path], price=price).spent == 3


def test_each_try_is_as_long_as_it_is(tmp_path: Path) -> None:
    dear = PRICE.model_copy(update={"input": Decimal(3000)})
    price = PRICE.model_copy(update={"above": (LongInputPrice(input_tokens=1500, price=dear),)})
    path = attempt(tmp_path / "1", retried(1), failed(KNOWN + KNOWN))
    assert recorded_of([path], price=price).spent == 2 * 3015


def test_an_unknown_price_is_an_unknown_cost(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", retried(), failed(KNOWN + KNOWN))
    assert recorded_of([path], price=None) == Earlier(usage=KNOWN + KNOWN, cost_usd=None)


# -- what lies in the spool


def test_a_reply_that_was_not_recorded_is_played_and_paid_for(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"))
    spool(path, "b")
    earlier = recorded_of([path], price=PRICE)
    assert [one.request_hash for one in earlier.replies] == ["a", "b"]
    assert earlier.replies[1].cost_usd == Decimal("0.0045")
    assert (earlier.spent, earlier.doubtful, earlier.usage, earlier.cost_usd) == (2 * COST, 0, Usage(), 0)


def test_half_a_reply_is_paid_for_and_in_doubt(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"))
    spool(path, "b", events=2)
    earlier = recorded_of([path], price=PRICE)
    assert texts(earlier) == ["a"]
    assert (earlier.spent, earlier.doubtful, earlier.usage) == (COST + 3015, DOUBT, KNOWN)


def test_a_request_without_an_answer_is_in_doubt_as_a_whole(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1")
    spool(path, "a", events=0)
    assert recorded_of([path], price=PRICE) == Earlier(doubtful=3015 + DOUBT)


def test_what_is_recorded_is_not_counted_again(tmp_path: Path) -> None:
    recorded = (replied("a"),), (retried(1),), (retried(1), retried(2))
    for number, events in enumerate(recorded):
        path = attempt(tmp_path / str(number), AgentPrompted(text=""), *events)
        before = recorded_of([path], price=PRICE)
        spool(path, "a", attempt=max(1, number))
        assert recorded_of([path], price=PRICE) == before


def test_the_try_after_the_recorded_ones_counts(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", AgentPrompted(text=""), replied("a"), retried(1))
    spool(path, "b", attempt=2)
    earlier = recorded_of([path], price=PRICE)
    assert [one.request_hash for one in earlier.replies] == ["a", "b"]
    assert earlier.replies[1].reply.wasted == KNOWN
    assert (earlier.spent, earlier.doubtful, earlier.usage) == (2 * COST + 3015, DOUBT, Usage())


def test_each_attempt_has_its_own_spool(tmp_path: Path) -> None:
    first = attempt(tmp_path / "1", AgentPrompted(text=""))
    spool(first, "a")
    second = attempt(tmp_path / "2", resumed(), AgentPrompted(text=""), replied("a", played=True))
    spool(second, "b", tool_id="toolu_other")
    earlier = recorded_of([first, second], price=PRICE)
    assert [one.request_hash for one in earlier.replies] == ["a", "b"]
    assert (earlier.spent, earlier.doubtful, earlier.usage) == (2 * COST, 0, Usage())


def test_a_reply_that_could_not_be_handed_back_is_paid_for_and_not_played(tmp_path: Path) -> None:
    call = Reply(
        content=(ToolUse(id="toolu_1", name="Bash", input={}),), stop_reason="tool_use", usage=USAGE, model="m"
    )
    one = replied("a").model_copy(update={"reply": call})
    path = attempt(tmp_path / "1", AgentPrompted(text=""), one)
    spool(path, "b", tool_id="toolu_1")
    earlier = recorded_of([path], price=PRICE)
    assert len(earlier.replies) == 1
    assert (earlier.spent, earlier.usage) == (2 * COST, USAGE)


def test_a_damaged_spool_says_nothing(tmp_path: Path) -> None:
    path = attempt(tmp_path / "1", replied("a"))
    path.with_name(SPOOL).write_bytes(b"\xff\x00" * 100)
    assert recorded_of([path], price=PRICE).spent == COST
