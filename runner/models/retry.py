"""Trying again: which failed tries may be repeated, how long to wait, and when the job's budget for that is used up."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from runner.messages import Reply, Retried, Usage
from runner.models.base import NoReply, Pay, Payment
from runner.models.governor import Place
from runner.task import Limits

RETRIED_STATUSES = frozenset((408, 409, 429))
"""Besides every 5xx (529, overloaded, among them)."""
OVERLOADED_STATUSES = frozenset((429, 529))
IN_DOUBT_STATUSES = frozenset((502, 504))
"""Said by what stands between us and the provider, which may well have taken the request. What the provider itself
answers with an error it does not bill."""
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
CLOSED = "the model was closed"
_CAUSE_CHARS = 300


class Fault(Exception):
    """One failed try. `str(fault)` is one printable line, whatever `cause` holds; `hint` is what a person could do."""

    def __init__(
        self,
        cause: str,
        *,
        retryable: bool = False,
        status: int | None = None,
        retry_after: float | None = None,
        hint: str = "",
        overloaded: bool = False,
        in_doubt: bool = False,
    ) -> None:
        super().__init__(_one_line(cause))
        self.retryable = retryable
        self.status = status
        self.retry_after = retry_after
        """Seconds that the provider asks us to wait."""
        self.hint = hint
        self.overloaded = overloaded
        """The provider has too much to do, for us or for all: asking less often is the remedy."""
        self.in_doubt = in_doubt
        """The request may have been taken and be billed, though no usage was told."""
        self.usage = Usage()
        """Known to be billed."""
        self.worst_usage = Usage()
        """Billed at the very most."""


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _CAUSE_CHARS]).split())
    return line if len(line) <= _CAUSE_CHARS else line[: _CAUSE_CHARS - 1] + "…"


@dataclass(kw_only=True, slots=True)
class RetryBudget:
    """What the failed requests of one job may still cost. Every retry takes from it; it is never refilled."""

    tries: int
    seconds: float
    cost_usd: Decimal | None = None
    """None: no ceiling."""
    first_wait_seconds: float = FIRST_WAIT_SECONDS
    """Backoff doubles from here; each wait is drawn evenly from 0 to the step, so that jobs come in no herds."""

    @classmethod
    def of(cls, limits: Limits) -> RetryBudget:
        cost = limits.retry_cost_usd
        return cls(
            tries=limits.retries,
            seconds=limits.retry_seconds,
            cost_usd=None if cost is None else Decimal(str(cost)),
        )

    def wait_for(self, fault: Fault, tried: int) -> float:
        """Seconds to wait after the `tried`-th try of a request."""
        if fault.retry_after:
            return fault.retry_after + random.uniform(0, self.first_wait_seconds)
        step = min(LONGEST_WAIT_SECONDS, self.first_wait_seconds * 2 ** min(tried - 1, 16))
        return random.uniform(0, step)

    def charge(self, cost_usd: Decimal | None) -> None:
        """Book what a failed try may have cost."""
        if self.cost_usd is not None:
            self.cost_usd -= cost_usd or Decimal()

    def refusal(self, wait: float, *, counted: bool = True) -> str:
        """Why the budget does not allow another try after `wait` seconds; empty when it does.

        `counted`: the try takes one of the budget's.
        """
        if counted and self.tries < 1:
            return "no retries are left (limits.retries)"
        if wait > self.seconds:
            return f"{_seconds(self.seconds)} of retry time are left (limits.retry_seconds)"
        if self.cost_usd is not None and self.cost_usd < 0:
            return "failed requests may have cost more than limits.retry_cost_usd"
        return ""

    def take(self, wait: float) -> None:
        self.tries -= 1
        self.seconds -= wait


def persist(
    attempt: Callable[[Payment, int], Reply],
    *,
    name: str,
    budget: RetryBudget,
    deadline: float,
    pay: Pay,
    cost_usd: Callable[[Usage], Decimal | None],
    on_retry: Callable[[Retried], None] | None,
    place: Place | None = None,
    closed: threading.Event | None = None,
) -> Reply:
    """The reply of the first try that does not fail.

    `attempt` gets what pays for the try, and its number from 1; it raises Fault. `deadline` is on time.monotonic();
    `name` opens the message. Raises NoReply when a fault is not worth repeating, or when neither the budget nor the
    deadline allows to wait for another try, or once the model is `closed`; and what `pay` and `on_retry` raise.

    With a place in a governor's line, a try that was refused because the provider has too much to do takes no retry
    from the budget, and waits in no backoff of its own: it waits its turn, together with everybody else, for as long as
    the budget's seconds last.
    """
    closed = closed or threading.Event()
    wasted = Usage()
    tried = 0
    failed: _Failed | None = None
    while True:
        tried += 1
        if place is not None and (problem := _wait_turn(place, budget, deadline, failed, closed)):
            raise NoReply(f"{name}: {problem}")
        answer = _try(attempt, pay, tried, place)
        if isinstance(answer, Reply):
            return answer.model_copy(update={"wasted": wasted}) if tried > 1 else answer
        failed, fault = answer, answer.fault
        wasted += fault.usage
        budget.charge(cost_usd(fault.worst_usage))
        wait = budget.wait_for(fault, tried) if failed.pause is None else failed.pause
        reason = CLOSED if closed.is_set() else _reason_to_stop(failed, wait, budget, deadline)
        if reason is not None:
            message = _message(name, fault, tried, reason)
            raise NoReply(message, last=fault.usage, last_worst=fault.worst_usage)
        if on_retry is not None:
            on_retry(_retried(fault, tried, wait))
        if failed.pause is None:
            budget.take(wait)
            closed.wait(wait)


class _Failed(NamedTuple):
    fault: Fault
    pause: float | None
    """Seconds that the governor has everybody wait for it; None: that is for the budget to say."""


def _try(attempt: Callable[[Payment, int], Reply], pay: Pay, tried: int, place: Place | None) -> Reply | _Failed:
    """One try, settled and told to the governor."""
    try:
        reply = _paid(attempt, pay(), tried)
        if place is not None:
            place.replied(reply.usage)
        return reply
    except Fault as fault:
        # Returned, not raised: the fault's chain ends here, because the SDK's errors carry the whole request.
        return _Failed(fault, place.refused(fault.retry_after) if place is not None and fault.overloaded else None)
    finally:
        if place is not None:
            place.leave()


def _wait_turn(
    place: Place, budget: RetryBudget, deadline: float, failed: _Failed | None, closed: threading.Event
) -> str:
    """Wait in the governor's line; after a refusal that takes from the budget's seconds. Why in vain, or nothing."""
    refused = None if failed is None or failed.pause is None else failed.fault
    began = time.monotonic()
    until = deadline if refused is None else min(deadline, began + budget.seconds)
    entered = place.enter(until, leaves=closed.is_set)
    if refused is not None:
        budget.seconds -= min(budget.seconds, time.monotonic() - began)
    if entered:
        return ""
    what = refused or "its turn did not come: the provider slows everybody down"
    if closed.is_set():
        return f"{what}; {CLOSED}"
    over = "limits.retry_seconds" if until < deadline else "the time for this request"
    return f"{what}; {over} does not allow to wait longer"


def _paid(attempt: Callable[[Payment, int], Reply], payment: Payment, tried: int) -> Reply:
    """One try, settled however it ends."""
    try:
        reply = attempt(payment, tried)
    except Fault as fault:
        payment.settle(fault.usage, fault.worst_usage)
        raise
    except BaseException:
        # Broken off in the middle: nobody knows how far the provider got.
        payment.settle(Usage(), payment.worst_usage)
        raise
    payment.settle(reply.usage, reply.usage)
    return reply


def _retried(fault: Fault, tried: int, wait: float) -> Retried:
    return Retried(
        attempt=tried,
        cause=str(fault),
        status=fault.status,
        wait_seconds=round(wait, 3),
        usage=fault.usage,
        worst_usage=fault.worst_usage,
    )


def _reason_to_stop(failed: _Failed, wait: float, budget: RetryBudget, deadline: float) -> str | None:
    """None: try again; else what to tell about why not, which may be nothing."""
    fault = failed.fault
    if not fault.retryable:
        return fault.hint
    left = deadline - time.monotonic()
    refusal = budget.refusal(wait, counted=failed.pause is None)
    if not refusal and wait >= left:
        refusal = f"{_seconds(max(0.0, left))} are left for this request"
    if refusal and fault.retry_after:
        asked = f"the provider asks to wait {_seconds(fault.retry_after)} (retry-after)"
        return f"{asked}, but {refusal}: run the job again later"
    return refusal or None


def _message(name: str, fault: Fault, tried: int, reason: str) -> str:
    tries = f" (try {tried})" if tried > 1 else ""
    return f"{name}: {fault}{tries}" + (f"; {reason}" if reason else "")


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def is_retryable(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer with this status may be asked for again; the provider's word, `x-should-retry`, goes first."""
    said = headers.get("x-should-retry", "").strip().lower()
    if said in ("true", "false"):
        return said == "true"
    return status in RETRIED_STATUSES or status >= 500


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """What `retry-after-ms` or `retry-after` (seconds or a date; RFC 9110 §10.2.3) asks for; None: nothing sensible.

    `now` is the time in seconds since the epoch. `headers` has lower-case names or finds them in any case.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    return seconds if seconds is not None else _seconds_until(value, now)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _seconds_until(date: str, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return None
