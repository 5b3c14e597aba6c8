from __future__ import annotations

from decimal import Decimal

import pytest

from runner.agents.limits import Spent, nearly_reached, overshot_by, room
from runner.messages import Price, Reply, Usage
from runner.models.base import MIN_REPLY_TOKENS
from runner.task import Limits
from runner.transcript import ModelFailed, Resumed

PRICE = Price(input=Decimal(3), output=Decimal(15), cache_read=Decimal("0.3"), cache_write=Decimal("3.75"))


def left(limits: Limits, spent: Spent, *, seconds_left: float = 60) -> int | str:
    return room(limits, spent, max_tokens=8192, seconds_left=seconds_left)


def test_without_a_limit_near_the_reply_may_be_as_long_as_asked() -> None:
    assert left(Limits(), Spent(price=None)) == 8192
    assert left(Limits(output_tokens=100_000), Spent(price=PRICE)) == 8192


def test_turns_are_replies() -> None:
    assert left(Limits(turns=2), Spent(price=None, turns=1)) == 8192
    assert left(Limits(turns=2), Spent(price=None, turns=2)) == "limits.turns"


def test_time_that_is_over_is_over() -> None:
    assert left(Limits(), Spent(price=None), seconds_left=0) == "limits.seconds"


def test_a_reply_is_shortened_to_the_tokens_that_are_left() -> None:
    limits = Limits(output_tokens=1000)
    assert left(limits, Spent(price=None, usage=Usage(output_tokens=300))) == 700
    assert left(limits, Spent(price=None, usage=Usage(output_tokens=1000 - MIN_REPLY_TOKENS))) == MIN_REPLY_TOKENS
    assert left(limits, Spent(price=None, usage=Usage(output_tokens=1001 - MIN_REPLY_TOKENS))) == "limits.output_tokens"


def test_a_request_is_tried_again_only_when_its_reply_fits_beside_what_failed() -> None:
    limits = Limits(output_tokens=5000)
    tried = Spent(price=PRICE).after_failures([Usage(input_tokens=1000, output_tokens=2000)])
    assert overshot_by(limits, tried, max_tokens=3000) is None
    assert overshot_by(limits, tried, max_tokens=3001) == "limits.output_tokens"
    assert overshot_by(Limits(), tried, max_tokens=10**6) is None


def test_an_unknown_price_is_an_unknown_cost() -> None:
    assert Spent(price=None, usage=Usage(input_tokens=5)).cost_usd is None
    assert left(Limits(), Spent(price=None, usage=Usage(input_tokens=5))) == 8192


def test_a_job_that_goes_on_begins_with_what_was_used_besides_its_replies() -> None:
    earlier = Resumed(attempt=2, transcript="", replies=3, usage=Usage(input_tokens=7), cost_usd=Decimal("0.5"))
    spent = Spent.before([earlier, ModelFailed(turn=1, error="")], PRICE)
    assert (spent.turns, spent.usage, spent.cost_usd) == (0, Usage(input_tokens=7), Decimal("0.5"))
    assert Spent.before([], PRICE) == Spent(price=PRICE)


def test_failed_tries_that_are_billed_count() -> None:
    reply = Reply(
        content=(),
        stop_reason="end_turn",
        model="m",
        usage=Usage(output_tokens=10),
    )
    failed = [Usage(input_tokens=1_000_000), Usage(output_tokens=1_000_000)]
    spent = Spent(price=PRICE).after_failures(failed).after(reply)
    assert spent.turns == 1
    assert spent.cost_usd == Decimal(3) + Decimal(15) + Decimal("0.00015")


def test_what_a_try_may_cost_beyond_what_is_known_is_in_doubt() -> None:
    known, worst = Usage(input_tokens=1000, output_tokens=1), Usage(input_tokens=1000, output_tokens=1001)
    assert Spent(price=PRICE).doubtful_usd(known, worst) == Decimal("0.015")
    assert Spent(price=PRICE).doubtful_usd(worst, known) == 0
    assert Spent(price=None).doubtful_usd(known, worst) is None
    assert Spent(price=None).doubtful_usd(known, known) == 0


@pytest.mark.parametrize(
    ("spent", "seconds_left", "words"),
    [
        (Spent(price=None), 100, {}),
        (Spent(price=None, turns=53), 100, {}),
        (Spent(price=None, turns=54), 100, {"limits.turns": "6 replies"}),
        (Spent(price=None), 10, {"limits.seconds": "little time"}),
        (Spent(price=PRICE, cost=Decimal("0.9")), 100, {"limits.cost_usd": "$0.1000"}),
        (Spent(price=None, usage=Usage(output_tokens=95_000)), 100, {"limits.output_tokens": "5000 output tokens"}),
    ],
)
def test_the_last_tenth_of_a_limit_is_announced(spent: Spent, seconds_left: float, words: dict[str, str]) -> None:
    limits = Limits(turns=60, cost_usd=1, output_tokens=100_000)
    assert nearly_reached(limits, spent, seconds=100, seconds_left=seconds_left) == words
