"""One pace for all: 429s and 529s slow everybody down together, and nobody is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest

from runner.messages import Request, Retried, Usage
from runner.models import Governors, NoReply, RetryBudget
from runner.models.anthropic import AnthropicModel
from runner.models.exchange import Exchange, event
from runner.models.governor import LONGEST_ASKED_SECONDS, Governor, Place, TokenRate
from runner.models.script import Trouble, Turn
from runner.models.scripted import ScriptedServer
from runner.models.secret import Secret
from tests.models.conftest import MODEL, ask

PAUSE = 0.005
NEVER = 800.0
"""Seconds that no test waits for."""


def governor(window: int = 8, per_minute: int | None = None, changes: list[str] | None = None) -> Governor:
    return Governor(
        window,
        TokenRate(per_minute),
        [].append if changes is None else changes.append,
        first_pause_seconds=PAUSE,
    )


def enters(place: Place, seconds: float = 0.0) -> bool:
    return place.enter(time.monotonic() + seconds)


def entered(governor: Governor, count: int) -> list[Place]:
    """So many requests under way."""
    places = [governor.line_up(100) for _ in range(count)]
    assert all(enters(place, 60) for place in places)
    return places


def leave(places: Sequence[Place]) -> None:
    for place in places:
        place.leave()


# -- the window


def test_no_more_requests_are_under_way_than_the_window_has_room_for() -> None:
    pace = governor(3)
    places = entered(pace, 3)
    one_more = pace.line_up(100)
    assert not enters(one_more)
    leave(places[:1])
    assert enters(one_more, 60)


def test_a_refusal_halves_the_window_and_the_others_of_its_round_do_not() -> None:
    changes: list[str] = []
    pace = governor(8, changes=changes)
    places = entered(pace, 8)
    for place in places:
        place.refused(None)
    assert pace.window == 4
    leave(places)
    places = entered(pace, 4)
    assert not enters(pace.line_up(100))
    places[0].refused(None)
    assert pace.window == 2
    assert changes == [
        "slowed down by the provider: 8 -> 4 requests at a time",
        "slowed down by the provider: 4 -> 2 requests at a time",
    ]


def test_one_request_is_always_let_through() -> None:
    pace = governor(1)
    for _ in range(3):
        (place,) = entered(pace, 1)
        place.refused(None)
        place.leave()
    assert pace.window == 1


def test_replies_widen_the_window_until_it_is_what_it_was() -> None:
    changes: list[str] = []
    pace = governor(4, changes=changes)
    (place,) = entered(pace, 1)
    place.refused(None)
    place.leave()
    sizes = []
    for _ in range(20):
        (place,) = entered(pace, 1)
        place.replied(Usage())
        place.leave()
        sizes.append(pace.window)
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (2, 4)
    assert changes[1:] == ["back to 4 requests at a time"]


def test_a_reply_to_what_was_sent_before_the_refusal_widens_nothing() -> None:
    pace = governor(4)
    first, *others = entered(pace, 4)
    first.refused(None)
    for place in others * 20:
        place.replied(Usage())
    assert pace.window == 2


def test_everybody_waits_as_long_as_the_provider_asks() -> None:
    pace = governor(8)
    first, second = entered(pace, 2)
    assert NEVER <= first.refused(NEVER) < NEVER + 60
    # What another try of the same round is told does not shorten it.
    assert second.refused(1.0) > NEVER - 60
    leave([first, second])
    # That it is in vain to wait for less is known at once.
    assert not enters(pace.line_up(100), NEVER / 2)


def test_one_answer_does_not_hold_everybody_up_for_ever() -> None:
    (place,) = entered(governor(), 1)
    assert place.refused(1e300) < LONGEST_ASKED_SECONDS + 60


def test_without_a_word_of_the_provider_pauses_grow_until_there_is_a_reply() -> None:
    pace = governor(1)
    pauses = []
    for _ in range(6):
        (place,) = entered(pace, 1)
        pauses.append(place.refused(None))
        place.leave()
    assert pauses[-1] >= PAUSE * 2**4
    assert pauses[0] <= PAUSE
    (place,) = entered(pace, 1)
    place.replied(Usage())
    assert place.refused(None) <= PAUSE


def test_of_those_who_wait_the_one_that_came_first_goes_first() -> None:
    pace = governor(1)
    (before,) = entered(pace, 1)
    places = [pace.line_up(100) for _ in range(6)]
    order: list[int] = []

    def work(number: int) -> None:
        assert enters(places[number], 60)
        order.append(number)
        places[number].leave()

    threads = [threading.Thread(target=work, args=(number,)) for number in reversed(range(6))]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while pace.waiting < 6:
        assert time.monotonic() - began < 30
        time.sleep(0.001)
    before.leave()
    for thread in threads:
        thread.join(60)
    assert order == [0, 1, 2, 3, 4, 5]


# -- one for each key


def test_there_is_one_governor_for_each_address_and_key() -> None:
    governors = Governors(window=5)
    one = governors.of("https://a", Secret("key-one"))
    assert governors.of("https://a", Secret("key-one")) is one
    assert governors.of("https://a", Secret("key-two")) is not one
    assert governors.of("https://b", Secret("key-one")) is not one
    assert one.window == 5


# -- tokens per minute


def taken(rate: TokenRate, bound: int, now: float) -> Any:
    got = rate.take(bound, now)
    assert not isinstance(got, float)
    return got


def test_without_a_limit_of_tokens_there_is_none() -> None:
    rate = TokenRate(None)
    assert rate.take(10**9, 0.0) is None
    rate.correct(None, Usage(input_tokens=10**9))


def test_in_any_minute_there_are_no_more_tokens_than_the_limit() -> None:
    rate = TokenRate(1000)
    # Of the most that a request can be, half is expected to begin with.
    rate.correct(taken(rate, 1200, 0.0), Usage(input_tokens=500, output_tokens=100))
    taken(rate, 800, 10.0)
    assert rate.take(10, 20.0) == 40.0
    assert not isinstance(rate.take(10, 60.0), float)


def test_a_request_that_was_refused_takes_nothing() -> None:
    rate = TokenRate(1000)
    rate.correct(taken(rate, 2000, 0.0), Usage())
    assert not isinstance(rate.take(2000, 1.0), float)


def test_a_request_that_is_more_than_the_limit_has_a_minute_to_itself() -> None:
    rate = TokenRate(1000)
    taken(rate, 10**6, 0.0)
    assert rate.take(1, 59.0) == 1.0
    assert not isinstance(rate.take(10**6, 60.0), float)


def test_how_much_a_request_is_of_what_it_can_be_is_learnt() -> None:
    rate = TokenRate(10_000)
    for now in range(20):
        rate.correct(taken(rate, 4000, 100.0 * now), Usage(input_tokens=100, cache_read_tokens=900))
    # At 100 of 4000 there is room for many more than the 5 that a half would make.
    assert sum(not isinstance(rate.take(4000, 5000.0), float) for _ in range(50)) > 40


def test_a_token_limit_holds_requests_back(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    governors = Governors(tokens_per_minute=1000)
    made = bench(Turn(text="one"), Turn(text="two"), governors=governors)
    made.model.reply(ask(input_tokens=1_000_000))
    with pytest.raises(NoReply, match="its turn did not come"):
        made.model.reply(ask(input_tokens=1_000_000, seconds=0.05))
    assert len(made.server.requests) == 1


# -- retries


def test_a_refusal_takes_time_and_no_retry(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    governors = Governors(first_pause_seconds=PAUSE)
    busy = Turn(fault=Trouble(status=429), repeat=3)
    made = bench(busy, Turn(fault=Trouble(status=529)), Turn(text="Done."), retry_seconds=60, governors=governors)
    told: list[Retried] = []
    assert made.model.reply(ask(), on_retry=told.append).text == "Done."
    assert [(one.attempt, one.status) for one in told] == [(1, 429), (2, 429), (3, 429), (4, 529)]
    assert made.budget.tries == 0
    assert made.budget.seconds < 60


def test_an_overload_that_is_told_within_a_stream_is_one_too(
    bench: Callable[..., Any], ask: Callable[..., Request]
) -> None:
    governors = Governors(window=4, first_pause_seconds=PAUSE)
    broken = Turn(text="x", fault=Trouble(after=3, then="error", error="overloaded_error"))
    made = bench(broken, Turn(text="Done."), retry_seconds=60, governors=governors)
    assert made.model.reply(ask()).text == "Done."
    assert governors.of(made.server.url, Secret(made.server.key)).window == 2


def test_other_failures_take_a_retry_as_ever(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    made = bench(Turn(fault=Trouble(status=500)), Turn(text="Done."), governors=Governors())
    with pytest.raises(NoReply, match=r"limits\.retries"):
        made.model.reply(ask())


def test_a_provider_that_stays_overloaded_uses_up_the_time_for_retries(
    bench: Callable[..., Any], ask: Callable[..., Request]
) -> None:
    governors = Governors(first_pause_seconds=PAUSE)
    made = bench(Turn(fault=Trouble(status=529), repeat=1000), retry_seconds=0.3, governors=governors)
    with pytest.raises(NoReply, match=r"529.*limits\.retry_seconds"):
        made.model.reply(ask(seconds=600))
    assert 1 < len(made.server.requests) < 100


def test_a_wait_beyond_the_budget_is_refused_at_once(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    busy = Turn(fault=Trouble(status=429, headers={"retry-after": "86400"}))
    with pytest.raises(NoReply, match=r"asks to wait 86400 s \(retry-after\), but .*limits\.retry_seconds"):
        bench(busy, governors=Governors()).model.reply(ask())


# -- closing


def test_a_model_that_is_closed_leaves_the_line(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    busy = Turn(fault=Trouble(status=429, headers={"retry-after": str(NEVER)}))
    made = bench(busy, retry_seconds=10 * NEVER, governors=Governors())
    with pytest.raises(NoReply, match="429.*the model was closed"):
        made.model.reply(ask(seconds=10 * NEVER), on_retry=lambda told: closed_elsewhere(made.model))


def closed_elsewhere(model: AnthropicModel) -> None:
    threading.Thread(target=model.close).start()


# -- many at a time


class Busy:
    """A provider that refuses what is more than it can serve at the same time, and everything during an outage."""

    def __init__(self, *, capacity: int, outage_seconds: float) -> None:
        self._capacity = capacity
        self._outage_seconds = outage_seconds
        self._first: float | None = None
        self._lock = threading.Lock()
        self._under_way = 0
        self.most = 0
        """Requests that were under way at the same time."""
        self.refused = 0
        self.served = 0

    def serve(self, exchange: Exchange) -> None:
        accepted = self._begin()
        # As long as a request takes.
        exchange.stopped.wait(0.01)
        with self._lock:
            self._under_way -= 1
        if accepted:
            exchange.stream()
            exchange.send(REPLY)
            exchange.end()
        else:
            exchange.error(429, "too many requests")

    def _begin(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._first = self._first or now
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            accepted = self._under_way <= self._capacity and now - self._first >= self._outage_seconds
            self.refused += not accepted
            self.served += accepted
            return accepted


REPLY = b"".join(
    (
        event(
            "message_start", message={"id": "msg_1", "model": "m", "usage": {"input_tokens": 10, "output_tokens": 1}}
        ),
        event("content_block_start", index=0, content_block={"type": "text", "text": "Done."}),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}),
        event("message_stop"),
    )
)
JOBS, REQUESTS, FIRST_PAUSE = 12, 4, 0.02


def work_at_once(provider: Busy) -> list[int]:
    """Many jobs, some requests each; the number of replies that each got."""
    replies = [0] * JOBS
    governors = Governors(window=JOBS, first_pause_seconds=FIRST_PAUSE)
    with ScriptedServer([provider.serve] * 10_000, keep_requests=False) as server:

        def work(number: int) -> None:
            # The server closes a connection after each answer, which may meet the next request: that is tried again.
            budget = RetryBudget(tries=1000, seconds=300, first_wait_seconds=0.001)
            model = AnthropicModel(
                "model", MODEL, base_url=server.url, key=Secret(server.key), budget=budget, governors=governors
            )
            with closing(model):
                for _ in range(REQUESTS):
                    model.reply(ask(seconds=300))
                    replies[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(JOBS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return replies


def test_an_outage_is_asked_about_a_few_times_and_not_by_every_job() -> None:
    provider = Busy(capacity=JOBS, outage_seconds=0.5)
    assert work_at_once(provider) == [REQUESTS] * JOBS
    # Rounds of 12, 6 and 3 requests, then of one; each pause twice as long as the one before it, so that no more than
    # 7 rounds have room in the outage, however fast or slow this machine is.
    assert 0 < provider.refused <= 12 + 6 + 3 + 4


def test_all_jobs_get_their_replies_from_a_provider_that_serves_few_at_a_time() -> None:
    provider = Busy(capacity=2, outage_seconds=0)
    assert work_at_once(provider) == [REQUESTS] * JOBS
    assert provider.most <= JOBS
    assert provider.served == JOBS * REQUESTS
