"""Money around a model: every try is paid for before it is made, and no cap is ever exceeded."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.ledger import JobLedger, Ledger
from runner.messages import LongInputPrice, Price, Reply, Request, Retried, Usage
from runner.models import Metered, NoReply, OverBudget, RetryBudget, open_model
from runner.models.anthropic import AnthropicModel
from runner.models.base import MIN_REPLY_TOKENS, Pay, Payment
from runner.models.metered import worst_usage
from runner.models.prices import price_of
from runner.models.retry import Fault, persist
from runner.models.script import ScriptedUsage, Trouble, Turn
from runner.models.scripted import ScriptedServer
from runner.models.secret import Secret
from tests.models.billing import Answer, Provider
from tests.models.conftest import MODEL, ask

USED = ScriptedUsage(input_tokens=1000, output_tokens=100)
COST = 1000 * 3 + 100 * 15
"""Micro-USD."""
INPUT = 2000
"""Of the requests, at most."""
WORST_INPUT = INPUT * 375 // 100


def usd(micro: int) -> Decimal:
    return Decimal(micro) / 1_000_000


def says(text: str = "Done.", **fault: Any) -> Turn:
    return Turn(text=text, usage=USED, fault=Trouble(**fault) if fault else None)


def asked(max_tokens: int = 1000) -> Request:
    return ask(input_tokens=INPUT, max_tokens=max_tokens)


# -- one request


def test_the_worst_case_is_set_aside_while_a_request_is_under_way_and_its_cost_settled(
    bench: Callable[..., Any],
) -> None:
    ledger, seen = JobLedger(usd(10**6)), []
    Metered(bench(says()).model, ledger).reply(asked(), on_text=lambda text: seen.append(ledger.reserved))
    assert seen == [WORST_INPUT + 1000 * 15]
    assert (ledger.spent, ledger.doubtful, ledger.reserved) == (COST, 0, 0)


def test_a_reply_is_shortened_to_what_is_affordable(bench: Callable[..., Any]) -> None:
    made = bench(says())
    Metered(made.model, JobLedger(usd(WORST_INPUT + 700 * 15 + 14))).reply(asked())
    assert made.server.requests[0].body["max_tokens"] == 700


def test_what_pays_for_no_reply_worth_its_input_ends_before_anything_is_sent(bench: Callable[..., Any]) -> None:
    made = bench(says(), says())
    least = WORST_INPUT + MIN_REPLY_TOKENS * 15
    with pytest.raises(OverBudget) as caught:
        Metered(made.model, JobLedger(usd(least - 1), limit="batch.cost_usd")).reply(asked())
    assert caught.value.limit == "batch.cost_usd"
    assert made.server.requests == []
    Metered(made.model, JobLedger(usd(least))).reply(asked())
    assert made.server.requests[0].body["max_tokens"] == MIN_REPLY_TOKENS


def test_a_request_for_a_short_reply_needs_no_more_than_it(bench: Callable[..., Any]) -> None:
    ledger = JobLedger(usd(WORST_INPUT + 10 * 15))
    assert Metered(bench(says()).model, ledger).reply(asked(max_tokens=10)).text == "Done."


def test_a_long_input_is_set_aside_at_the_price_of_long_inputs() -> None:
    price = PRICES_WITH_STEPS
    assert price.cost_usd(worst_usage(200_001, 10, price)) == (200_001 * Decimal("7.5") + 10 * Decimal("22.5")) / 10**6


def test_the_dearest_kind_of_input_is_what_it_may_be() -> None:
    def flat(**rates: int) -> Price:
        return Price.model_validate({"input": 1, "output": 1, "cache_read": 1, "cache_write": 1} | rates)

    assert worst_usage(5, 7, flat()) == Usage(input_tokens=5, output_tokens=7)
    assert worst_usage(5, 7, flat(cache_write=2)) == Usage(cache_write_tokens=5, output_tokens=7)
    assert worst_usage(5, 7, flat(cache_read=2)) == Usage(cache_read_tokens=5, output_tokens=7)
    assert worst_usage(5, 7, None) == Usage(input_tokens=5, output_tokens=7)


def test_where_the_price_is_unknown_nothing_is_counted(ask: Callable[..., Request]) -> None:
    ledger = JobLedger(usd(1))
    with ScriptedServer([says()], model="house-model") as server:
        variables = {"ANTHROPIC_API_KEY": server.key, "ANTHROPIC_BASE_URL": server.url}
        budget = RetryBudget(tries=0, seconds=1)
        model = Metered(open_model("anthropic:house-model", folder=Path(), variables=variables, budget=budget), ledger)
        with closing(model):
            assert model.reply(asked()).text == "Done."
    assert ledger.spent == 0


# -- failed tries


def test_every_try_is_set_aside_anew(bench: Callable[..., Any]) -> None:
    ledger, held = JobLedger(usd(10**6)), []
    made = bench(says(after=4), says(after=4), says(), retries=2)
    Metered(made.model, ledger).reply(
        asked(),
        on_text=lambda text: held.append(ledger.reserved),
        on_retry=lambda retried: held.append(ledger.reserved),
    )
    worst = WORST_INPUT + 15_000
    assert held == [worst, 0, worst, 0, worst]


def test_of_a_cut_stream_the_known_usage_is_spent_and_the_rest_of_its_worst_case_doubtful(
    bench: Callable[..., Any],
) -> None:
    ledger = JobLedger(usd(10**6))
    Metered(bench(says(after=3), says(), retries=1).model, ledger).reply(asked())
    # message_start tells all of the input and one token of output.
    assert ledger.spent == 3000 + 15 + COST
    assert ledger.doubtful == 999 * 15


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 529])
def test_an_error_of_the_provider_costs_nothing(bench: Callable[..., Any], status: int) -> None:
    ledger = JobLedger(usd(10**6))
    with pytest.raises(NoReply):
        Metered(bench(says(status=status)).model, ledger).reply(asked())
    assert (ledger.spent, ledger.doubtful, ledger.reserved) == (0, 0, 0)


def test_an_error_event_before_the_reply_begins_costs_nothing(bench: Callable[..., Any]) -> None:
    ledger = JobLedger(usd(10**6))
    Metered(bench(says(after=0, then="error"), says(), retries=1).model, ledger).reply(asked())
    assert (ledger.spent, ledger.doubtful, ledger.reserved) == (COST, 0, 0)


@pytest.mark.parametrize(
    "trouble",
    [{"after": 0}, {"after": 0, "then": "reset"}, {"status": 502}, {"status": 504}, {"status": 200, "body": "{}"}],
)
def test_a_request_that_may_have_been_taken_is_doubtful_as_a_whole(
    bench: Callable[..., Any], trouble: dict[str, Any]
) -> None:
    ledger = JobLedger(usd(10**6))
    with pytest.raises(NoReply):
        Metered(bench(says(**trouble)).model, ledger).reply(asked())
    assert (ledger.spent, ledger.doubtful, ledger.reserved) == (0, WORST_INPUT + 15_000, 0)


def test_a_request_that_was_not_sent_costs_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    budget = RetryBudget(tries=2, seconds=5, first_wait_seconds=0.001)
    ledger = JobLedger(usd(10**6))
    model = AnthropicModel("model", MODEL, base_url=address, key=Secret("key"), budget=budget)
    with closing(model), pytest.raises(NoReply, match="refused"):
        Metered(model, ledger).reply(asked())
    assert (ledger.spent, ledger.doubtful, ledger.reserved) == (0, 0, 0)


def test_a_retry_that_is_not_paid_for_is_not_made(bench: Callable[..., Any]) -> None:
    made = bench(says(after=3), says(), retries=5)
    # The first try may have cost all but 14 micro-USD of what the second would need.
    ledger = JobLedger(usd(3000 + 15_000 + WORST_INPUT + MIN_REPLY_TOKENS * 15 - 1))
    with pytest.raises(OverBudget):
        Metered(made.model, ledger).reply(asked())
    assert len(made.server.requests) == 1


def test_a_request_that_is_broken_off_is_doubtful(bench: Callable[..., Any]) -> None:
    ledger = JobLedger(usd(10**6))

    def stop(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Metered(bench(says()).model, ledger).reply(asked(), on_text=stop)
    assert (ledger.spent, ledger.doubtful, ledger.reserved) == (0, WORST_INPUT + 15_000, 0)


# -- whatever comes


PRICES_WITH_STEPS = Price(
    input=Decimal(3),
    output=Decimal(15),
    cache_read=Decimal("0.3"),
    cache_write=Decimal("3.75"),
    above=(
        LongInputPrice(
            input_tokens=200_000,
            price=Price(
                input=Decimal(6), output=Decimal("22.5"), cache_read=Decimal("0.6"), cache_write=Decimal("7.5")
            ),
        ),
    ),
)


class _Killed(BaseException):
    """The runner dies here: nothing is settled, nothing is recorded."""


@dataclass(frozen=True)
class _Step:
    """What becomes of one try, in shares of what it may be."""

    share: float
    read: float
    written: float
    end: str
    """reply, cut, lost, refused, killed."""


@dataclass
class _AnyPrice:
    """A Payable of any price, whose tries end as they are told to."""

    price: Price
    steps: list[_Step]
    bill: Decimal = Decimal(0)
    name: str = "model"
    asked: list[int] = field(default_factory=list)

    def reply(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_retry: Callable[[Retried], None] | None = None,
        pay: Pay | None = None,
    ) -> Reply:
        assert pay is not None
        return persist(
            lambda payment, tried: self._attempt(request, payment),
            name=self.name,
            budget=RetryBudget(tries=100, seconds=100, first_wait_seconds=0),
            deadline=float("inf"),
            pay=pay,
            cost_usd=lambda usage: None,
            on_retry=on_retry,
        )

    def _attempt(self, request: Request, payment: Payment) -> Reply:
        self.asked.append(payment.max_tokens)
        if not self.steps:
            raise Fault("no more", retryable=False)
        step = self.steps.pop()
        counted = int(request.input_tokens * step.share)
        read = int(counted * step.read)
        written = int((counted - read) * step.written)
        usage = Usage(
            input_tokens=counted - read - written,
            cache_read_tokens=read,
            cache_write_tokens=written,
            output_tokens=int(payment.max_tokens * step.share),
        )
        fault = Fault(step.end, retryable=True)
        if step.end == "refused":
            raise fault
        self.bill += self.price.cost_usd(usage)
        match step.end:
            case "reply":
                return Reply(content=(), stop_reason="end_turn", usage=usage, model="m")
            case "cut":
                fault.usage = usage.model_copy(update={"output_tokens": 0})
                fault.worst_usage = usage.model_copy(update={"output_tokens": payment.max_tokens})
            case "lost":
                fault.worst_usage = payment.worst_usage
            case _:
                raise _Killed
        raise fault

    def close(self) -> None:
        pass


rates = st.decimals(0, 100, places=3)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    flat = Price(input=draw(rates), output=draw(rates), cache_read=draw(rates), cache_write=draw(rates))
    if draw(st.booleans()):
        return flat
    dear = Price.model_validate(
        {name: getattr(flat, name) * 2 for name in ("input", "output", "cache_read", "cache_write")}
    )
    step = LongInputPrice(input_tokens=draw(st.integers(0, 100_000)), price=dear)
    return flat.model_copy(update={"above": (step,)})


shares = st.sampled_from([0.0, 0.3, 1.0]) | st.floats(0, 1)
steps = st.builds(
    _Step,
    share=shares,
    read=shares,
    written=shares,
    end=st.sampled_from(["reply", "reply", "cut", "lost", "refused", "killed"]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    price=prices(),
    caps=st.tuples(st.integers(0, 5_000_000), st.lists(st.none() | st.integers(0, 3_000_000), min_size=1, max_size=4)),
    input_tokens=st.integers(0, 150_000),
    max_tokens=st.integers(1, 20_000),
    scripts=st.lists(st.lists(steps, max_size=8), min_size=4, max_size=4),
)
def test_no_cap_is_exceeded_at_any_price_by_any_tries_of_jobs_at_the_same_time(
    price: Price,
    caps: tuple[int, Sequence[int | None]],
    input_tokens: int,
    max_tokens: int,
    scripts: list[list[_Step]],
) -> None:
    batch = JobLedger(usd(caps[0]), limit="batch.cost_usd")
    ledgers = [JobLedger(None if cap is None else usd(cap), above=batch) for cap in caps[1]]
    models = [_AnyPrice(price, script) for script, _ in zip(scripts, ledgers, strict=False)]
    _at_the_same_time(
        [
            lambda model=model, ledger=ledger: _work(
                model, ledger, ask(input_tokens=input_tokens, max_tokens=max_tokens)
            )
            for model, ledger in zip(models, ledgers, strict=True)
        ]
    )
    bill = sum(model.bill for model in models) * 1_000_000
    assert bill <= batch.spent + batch.doubtful + batch.reserved <= caps[0]
    assert all(tokens <= max_tokens for model in models for tokens in model.asked)
    for model, ledger, cap in zip(models, ledgers, caps[1], strict=True):
        held = ledger.spent + ledger.doubtful + ledger.reserved
        assert model.bill * 1_000_000 <= held
        assert cap is None or held <= cap
        assert ledger.spent <= model.bill * 1_000_000 + len(model.asked)


def _work(model: _AnyPrice, ledger: Ledger, request: Request) -> None:
    """Ask until the money, the script or the runner ends."""
    metered = Metered(model, _Mortal(ledger))
    with suppress(OverBudget, NoReply, _Killed):
        while True:
            metered.reply(request)


class _Mortal:
    """A ledger that is not told of what a killed runner did not live to settle."""

    def __init__(self, ledger: Ledger) -> None:
        self.reserve = ledger.reserve
        self._ledger = ledger

    def settle(self, *args: Any, **amounts: Any) -> None:
        if not isinstance(sys.exception(), _Killed):
            self._ledger.settle(*args, **amounts)


def _at_the_same_time(work: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


answers = st.builds(
    Answer,
    status=st.none() | st.none() | st.sampled_from([429, 500, 529]),
    share=shares,
    cached=shares,
    events=st.none() | st.none() | st.integers(0, 5),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cents=st.integers(1, 40),
    scripts=st.lists(st.lists(answers, min_size=1, max_size=6), min_size=1, max_size=3),
    max_tokens=st.integers(1, 8000),
)
def test_the_server_s_bill_is_what_is_spent_and_never_more_than_the_cap(
    cents: int, scripts: list[list[Answer]], max_tokens: int
) -> None:
    price = price_of(MODEL)
    assert price is not None
    cap = cents * 10_000
    batch = JobLedger(usd(cap))
    provider = Provider(price, INPUT)

    def work(script: list[Answer]) -> None:
        with ScriptedServer([provider.turn(answer) for answer in script], model=MODEL) as server:
            budget = RetryBudget(tries=10, seconds=60, first_wait_seconds=0.001)
            model = AnthropicModel("model", MODEL, base_url=server.url, key=Secret(server.key), budget=budget)
            metered = Metered(model, JobLedger(None, above=batch))
            with closing(metered), suppress(OverBudget, NoReply):
                while True:
                    metered.reply(ask(input_tokens=INPUT, max_tokens=max_tokens, seconds=60))

    _at_the_same_time([lambda script=script: work(script) for script in scripts])
    assert batch.reserved == 0
    assert batch.spent <= provider.bill <= batch.spent + batch.doubtful <= cap
    if not batch.doubtful:
        assert batch.spent == provider.bill
