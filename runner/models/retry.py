"""Trying again: which failed tries may be repeated, how long to wait, and when the job's budget for that is used up."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime

from runner.messages import Reply, Retried, Usage
from runner.models.base import NoReply
from runner.task import Limits

RETRIED_STATUSES = frozenset((408, 409, 429))
"""Besides every 5xx (529, overloaded, among them)."""
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
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
    ) -> None:
        super().__init__(_one_line(cause))
        self.retryable = retryable
        self.status = status
        self.retry_after = retry_after
        """Seconds that the provider asks us to wait."""
        self.hint = hint
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

    def refusal(self, wait: float) -> str:
        """Why the budget does not allow another try after `wait` seconds; empty when it does."""
        if self.tries < 1:
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
    attempt: Callable[[], Reply],
    *,
    name: str,
    budget: RetryBudget,
    deadline: float,
    cost_usd: Callable[[Usage], Decimal | None],
    on_retry: Callable[[Retried], None] | None,
) -> Reply:
    """The reply of the first try that does not fail.

    `attempt` raises Fault; `deadline` is on time.monotonic(); `name` opens the message. Raises NoReply when a fault is
    not worth repeating, or when neither the budget nor the deadline allows to wait for another try.
    """
    wasted = Usage()
    tried = 0
    while True:
        tried += 1
        try:
            reply = attempt()
            return reply.model_copy(update={"wasted": wasted}) if tried > 1 else reply
        except Fault as caught:
            fault = caught
        wasted += fault.usage
        budget.charge(cost_usd(fault.worst_usage))
        wait = budget.wait_for(fault, tried)
        reason = _reason_to_stop(fault, wait, budget, deadline)
        if reason is not None:
            # Out of the except block: the fault's chain ends here, because the SDK's errors carry the whole request.
            raise NoReply(_message(name, fault, tried, reason), wasted=wasted)
        budget.take(wait)
        if on_retry is not None:
            on_retry(_retried(fault, tried, wait))
        time.sleep(wait)


def _retried(fault: Fault, tried: int, wait: float) -> Retried:
    return Retried(
        attempt=tried,
        cause=str(fault),
        status=fault.status,
        wait_seconds=round(wait, 3),
        usage=fault.usage,
        worst_usage=fault.worst_usage,
    )


def _reason_to_stop(fault: Fault, wait: float, budget: RetryBudget, deadline: float) -> str | None:
    """None: try again; else what to tell about why not, which may be nothing."""
    if not fault.retryable:
        return fault.hint
    left = deadline - time.monotonic()
    refusal = budget.refusal(wait)
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
