from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.agents.limits import MIN_REPLY_TOKENS, Spent, nearly_reached, overshot_by, room
from runner.messages import LongInputPrice, Price, Reply, Usage
from runner.task import Limits

PRICE = Price(input=Decimal(3), output=Decimal(15), cache_read=Decimal("0.3"), cache_write=Decimal("3.75"))
FREE = Price(input=Decimal(0), output=Decimal(0), cache_read=Decimal(0), cache_write=Decimal(0))


def left(limits: Limits, spent: Spent, *, input_tokens: int = 1000, seconds_left: float = 60) -> int | str:
    return room(limits, spent, input_tokens=input_tokens, max_tokens=8192, seconds_left=seconds_left)


def test_without_a_limit_near_the_reply_may_be_as_long_as_asked() -> None:
    assert left(Limits(), Spent(price=None)) == 8192
    assert left(Limits(cost_usd=10, output_tokens=100_000), Spent(price=PRICE)) == 8192
    assert left(Limits(cost_usd=0.01), Spent(price=FREE)) == 8192


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


def test_a_reply_is_shortened_to_what_is_affordable_after_the_dearest_input() -> None:
    # $0.02 - 1000 * $3.75/M = $0.01625, which buys 1083 tokens at $15/M.
    assert left(Limits(cost_usd=0.02), Spent(price=PRICE)) == 1083
    assert left(Limits(cost_usd=0.02), Spent(price=PRICE), input_tokens=5000) == "limits.cost_usd"
    assert left(Limits(cost_usd=0.02), Spent(price=PRICE), input_tokens=50_000) == "limits.cost_usd"


def test_a_request_is_tried_again_only_when_it_fits_beside_what_failed() -> None:
    limits = Limits(cost_usd=0.1, output_tokens=5000)
    tried = Spent(price=PRICE).after_failures([Usage(input_tokens=1000, output_tokens=2000)])
    assert overshot_by(limits, tried, input_tokens=1000, max_tokens=3000) is None
    assert overshot_by(limits, tried, input_tokens=1000, max_tokens=3001) == "limits.output_tokens"
    assert overshot_by(limits, tried, input_tokens=5866, max_tokens=3000) is None
    assert overshot_by(limits, tried, input_tokens=5867, max_tokens=3000) == "limits.cost_usd"
    assert overshot_by(Limits(), tried, input_tokens=10**7, max_tokens=10**6) is None


def test_an_unknown_price_is_an_unknown_cost() -> None:
    assert Spent(price=None, usage=Usage(input_tokens=5)).cost_usd is None
    assert left(Limits(), Spent(price=None, usage=Usage(input_tokens=5))) == 8192


def test_failed_tries_that_are_billed_count() -> None:
    reply = Reply(
        content=(),
        stop_reason="end_turn",
        model="m",
        usage=Usage(output_tokens=10),
        wasted=Usage(input_tokens=1_000_000),
    )
    spent = Spent(price=PRICE).after(reply).after_failures([Usage(output_tokens=1_000_000)])
    assert spent.turns == 1
    assert spent.cost_usd == Decimal(3) + Decimal(15) + Decimal("0.00015")


counts = st.integers(0, 3_000_000)
prices = st.decimals(0, 100, places=3)
dear = Decimal(200)
steps = st.lists(
    st.builds(
        LongInputPrice,
        input_tokens=counts,
        price=st.just(Price(input=dear, output=dear, cache_read=dear, cache_write=dear)),
    ),
    max_size=1,
).map(tuple)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    limit=st.floats(0.0001, 20),
    price=st.builds(Price, input=prices, output=prices, cache_read=prices, cache_write=prices, above=steps),
    usage=st.builds(Usage, input_tokens=counts, output_tokens=counts, cache_read_tokens=counts),
    input_tokens=counts,
    max_tokens=st.integers(256, 128_000),
    split=st.tuples(st.integers(0, 100), st.integers(0, 100)),
)
def test_what_is_granted_is_paid_for_however_the_input_is_billed(
    limit: float, price: Price, usage: Usage, input_tokens: int, max_tokens: int, split: tuple[int, int]
) -> None:
    spent = Spent(price=price).after_failures([usage])
    granted = room(
        Limits(cost_usd=limit),
        spent,
        input_tokens=input_tokens,
        max_tokens=max_tokens,
        seconds_left=1,
    )
    if isinstance(granted, str):
        assert granted == "limits.cost_usd"
        return
    assert min(MIN_REPLY_TOKENS, max_tokens) <= granted <= max_tokens
    read = input_tokens * split[0] // 100
    written = (input_tokens - read) * split[1] // 100
    billed = Usage(
        input_tokens=input_tokens - read - written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=granted,
    )
    assert spent.after_failures([billed]).cost <= Decimal(str(limit))


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
