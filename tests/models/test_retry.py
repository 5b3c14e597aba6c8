"""Budgets and waits: when a failed try is repeated, after how long, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.messages import Reply, Retried, Usage
from runner.models.base import NoReply, Payment
from runner.models.retry import Fault, RetryBudget, is_retryable, persist, retry_after_seconds
from runner.task import Limits

Attempt = Callable[[Payment, int], Reply]
GOOD = Reply(content=(), stop_reason="end_turn", usage=Usage(output_tokens=5), model="m")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def budget(tries: int = 10, seconds: float = 10, cost_usd: Decimal | None = None) -> RetryBudget:
    return RetryBudget(tries=tries, seconds=seconds, cost_usd=cost_usd, first_wait_seconds=0.001)


def failing(*faults: Fault) -> Attempt:
    """Raises the faults one after the other, then replies."""
    left = list(faults)

    def attempt(payment: Payment, tried: int) -> Reply:
        if left:
            raise left.pop(0)
        return GOOD

    return attempt


def billed(fault: Fault, tokens: int) -> Fault:
    fault.usage = fault.worst_usage = Usage(input_tokens=tokens)
    return fault


def paid() -> Payment:
    return Payment(max_tokens=10, worst_usage=Usage(output_tokens=10))


def reply(attempt: Attempt, spend: RetryBudget, seconds: float = 10, told: list[Retried] | None = None) -> Reply:
    return persist(
        attempt,
        name="model",
        budget=spend,
        deadline=time.monotonic() + seconds,
        pay=paid,
        cost_usd=lambda usage: Decimal(usage.total_tokens) / 1000,
        on_retry=None if told is None else told.append,
    )


def test_retryable_faults_are_repeated_and_told() -> None:
    told: list[Retried] = []
    assert (
        reply(failing(Fault("first", retryable=True, status=529), Fault("second", retryable=True)), budget(), told=told)
        == GOOD
    )
    assert [(one.attempt, one.cause, one.status) for one in told] == [(1, "first", 529), (2, "second", None)]


def test_what_a_failed_try_costs_is_told_before_the_next_one() -> None:
    told: list[Retried] = []
    fault = billed(Fault("cut", retryable=True), 100)
    fault.worst_usage = Usage(input_tokens=100, output_tokens=900)
    reply(failing(fault), budget(), told=told)
    assert (told[0].usage, told[0].worst_usage) == (Usage(input_tokens=100), fault.worst_usage)


def test_the_caller_can_end_the_tries() -> None:
    def enough(retried: Retried) -> None:
        raise KeyboardInterrupt(retried.cause)

    with pytest.raises(KeyboardInterrupt, match="busy"):
        persist(
            failing(Fault("busy", retryable=True)),
            name="model",
            budget=budget(),
            deadline=time.monotonic() + 9,
            pay=paid,
            cost_usd=lambda usage: None,
            on_retry=enough,
        )


def test_other_faults_end_at_once_with_their_hint() -> None:
    told: list[Retried] = []
    with pytest.raises(NoReply, match=r"^model: HTTP 401; check the key$"):
        reply(failing(Fault("HTTP 401", status=401, hint="check the key")), budget(), told=told)
    assert told == []


def test_the_usage_of_failed_tries_is_in_the_reply() -> None:
    faults = [billed(Fault("x", retryable=True), tokens) for tokens in (100, 20)]
    assert reply(failing(*faults), budget()).wasted == Usage(input_tokens=120)


def test_what_the_last_try_is_billed_and_may_be_is_in_the_error() -> None:
    last = billed(Fault("y"), 20)
    last.worst_usage = Usage(input_tokens=20, output_tokens=7)
    with pytest.raises(NoReply, match=r"y \(try 2\)") as caught:
        reply(failing(billed(Fault("x", retryable=True), 100), last), budget())
    assert (caught.value.last, caught.value.last_worst) == (last.usage, last.worst_usage)


def test_every_try_is_paid_for_and_settled_however_it_ends() -> None:
    settled: list[tuple[Usage, Usage]] = []

    def pay() -> Payment:
        return Payment(
            max_tokens=10,
            worst_usage=Usage(output_tokens=10),
            settle=lambda usage, worst: settled.append((usage, worst)),
        )

    cut = Fault("cut", retryable=True)
    cut.usage, cut.worst_usage = Usage(output_tokens=1), Usage(output_tokens=9)

    def broken_off(payment: Payment, tried: int) -> Reply:
        raise KeyboardInterrupt

    for attempt, raised in ((failing(cut), None), (broken_off, KeyboardInterrupt)):
        with pytest.raises(raised) if raised else nullcontext():
            persist(
                attempt,
                name="model",
                budget=budget(),
                deadline=time.monotonic() + 9,
                pay=pay,
                cost_usd=lambda usage: None,
                on_retry=None,
            )
    assert settled == [
        (cut.usage, cut.worst_usage),
        (GOOD.usage, GOOD.usage),
        (Usage(), Usage(output_tokens=10)),
    ]


def test_tries_are_counted_over_all_requests_of_the_job() -> None:
    spend = budget(tries=3)
    reply(failing(*(Fault("x", retryable=True) for _ in range(2))), spend)
    with pytest.raises(NoReply, match=r"limits\.retries"):
        reply(failing(*(Fault("x", retryable=True) for _ in range(2))), spend)
    assert spend.tries == 0


def test_waiting_time_is_counted_over_all_requests_of_the_job() -> None:
    spend = budget(seconds=0.05)
    reply(failing(Fault("x", retryable=True, retry_after=0.02)), spend)
    with pytest.raises(NoReply, match=r"limits\.retry_seconds"):
        reply(failing(*(Fault("x", retryable=True, retry_after=0.02) for _ in range(2))), spend)
    assert 0 <= spend.seconds < 0.02


def test_a_retry_after_beyond_the_budget_is_refused_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(NoReply, match=r"asks to wait 86400 s \(retry-after\), but 10 s .*limits\.retry_seconds.*later"):
        reply(failing(Fault("busy", retryable=True, retry_after=86400)), budget(), seconds=1e6)
    assert time.monotonic() - began < 1


def test_a_wait_beyond_the_deadline_is_refused_at_once() -> None:
    with pytest.raises(NoReply, match=r"asks to wait 5 s .*left for this request"):
        reply(failing(Fault("busy", retryable=True, retry_after=5)), budget(), seconds=1)


def test_the_worst_price_of_failed_tries_counts_against_the_money() -> None:
    spend = budget(cost_usd=Decimal("0.25"))
    with pytest.raises(NoReply, match=r"limits\.retry_cost_usd"):
        reply(failing(*(billed(Fault("cut", retryable=True), 100) for _ in range(5))), spend)
    assert spend.cost_usd == Decimal("-0.05")
    assert spend.tries == 8


def test_free_faults_cost_nothing() -> None:
    spend = budget(cost_usd=Decimal(0))
    assert reply(failing(Fault("429", retryable=True)), spend) == GOOD


def test_without_retries_the_first_fault_is_the_last() -> None:
    with pytest.raises(NoReply, match=r"limits\.retries"):
        reply(failing(Fault("x", retryable=True)), budget(tries=0))


def test_an_error_of_the_caller_is_not_taken_for_a_fault() -> None:
    def attempt(payment: Payment, tried: int) -> Reply:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        reply(attempt, budget())


def test_the_error_does_not_hold_on_to_what_caused_it() -> None:
    with pytest.raises(NoReply) as caught:
        reply(failing(Fault("x")), budget())
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_backoff_doubles_up_to_a_ceiling_and_is_drawn_from_zero() -> None:
    spend = RetryBudget(tries=1, seconds=1)
    fault = Fault("x", retryable=True)
    tops = [max(spend.wait_for(fault, tried) for _ in range(300)) for tried in (1, 2, 3, 7, 1000)]
    assert all(top <= limit for top, limit in zip(tops, (0.5, 1, 2, 30, 30), strict=True))
    assert tops[0] < tops[1] < tops[2] < tops[3]
    assert min(spend.wait_for(fault, 7) for _ in range(300)) < 3


def test_the_budget_comes_from_the_limits_of_the_task() -> None:
    limits = Limits(retries=3, retry_seconds=7, retry_cost_usd=0.1)
    assert RetryBudget.of(limits) == RetryBudget(tries=3, seconds=7, cost_usd=Decimal("0.1"))
    assert RetryBudget.of(Limits()).cost_usd is None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529, 599])
def test_these_statuses_are_retried_unless_the_provider_says_no(status: int) -> None:
    assert is_retryable(status, {})
    assert not is_retryable(status, {"x-should-retry": "false"})


@pytest.mark.parametrize("status", [300, 307, 400, 401, 402, 403, 404, 413, 418, 422])
def test_these_statuses_are_not_retried_unless_the_provider_says_so(status: int) -> None:
    assert not is_retryable(status, {})
    assert is_retryable(status, {"x-should-retry": "true"})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=90), usegmt=True)}, 90),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW, UTC) - timedelta(days=1), usegmt=True)}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Fri, 99 Foo 99999 99:99:99 GMT"}, None),
    ],
)
def test_retry_after_is_understood_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


@settings(deadline=None)
@given(st.text())
def test_any_retry_after_is_a_time_or_nothing(value: str) -> None:
    seconds = retry_after_seconds({"retry-after": value, "retry-after-ms": value}, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@settings(deadline=None)
@given(st.text())
def test_a_fault_is_one_printable_line(cause: str) -> None:
    line = str(Fault(cause))
    assert line.isprintable()
    assert len(line) <= 300
