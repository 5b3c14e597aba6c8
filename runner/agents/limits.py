"""What a job may still spend: a request is made only when its worst case fits under every limit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import reduce
from typing import Literal

from runner.messages import Price, Reply, Usage
from runner.task import Limits

LimitName = Literal["limits.turns", "limits.seconds", "limits.cost_usd", "limits.output_tokens"]

MIN_REPLY_TOKENS = 256
"""A reply with less room than this is not worth its input: the limit counts as reached."""
_NEARLY = 0.1
"""The share of a limit that is left when the model is told about it."""
_FEW_TURNS = 3
_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What a job has spent so far, repair rounds included."""

    price: Price | None
    """None: unknown, and so is the cost."""
    turns: int = 0
    usage: Usage = Usage()
    """Tokens, with those of failed tries that the provider bills."""
    cost: Decimal = Decimal(0)

    @property
    def cost_usd(self) -> Decimal | None:
        return self.cost if self.price else None

    def after(self, reply: Reply) -> Spent:
        return replace(self._with(reply.usage)._with(reply.wasted), turns=self.turns + 1)

    def after_failures(self, usages: Iterable[Usage]) -> Spent:
        return reduce(Spent._with, usages, self)

    def _with(self, usage: Usage) -> Spent:
        # Costs are added up, not computed from the sum of tokens: long requests may be dearer by the token.
        cost = self.price.cost_usd(usage) if self.price else Decimal(0)
        return replace(self, usage=self.usage + usage, cost=self.cost + cost)


def room(limits: Limits, spent: Spent, *, input_tokens: int, max_tokens: int, seconds_left: float) -> int | LimitName:
    """Tokens that the next reply may have, or the limit that leaves no room for one.

    `input_tokens` is the most that the request can be counted as.
    """
    if spent.turns >= limits.turns:
        return "limits.turns"
    if seconds_left <= 0:
        return "limits.seconds"
    least = min(MIN_REPLY_TOKENS, max_tokens)
    rooms = _rooms(limits, spent, input_tokens, max_tokens)
    reached = (name for name, tokens in rooms.items() if tokens < least)
    return next(reached, min(rooms.values()))


def overshot_by(limits: Limits, spent: Spent, *, input_tokens: int, max_tokens: int) -> LimitName | None:
    """The limit that a request could overshoot, None when it fits whatever comes of it."""
    rooms = _rooms(limits, spent, input_tokens, max_tokens)
    return next((name for name, tokens in rooms.items() if tokens < max_tokens), None)


def _rooms(limits: Limits, spent: Spent, input_tokens: int, max_tokens: int) -> dict[LimitName, int]:
    """Output tokens that each limit leaves, `max_tokens` at most."""
    by_tokens = max_tokens if limits.output_tokens is None else limits.output_tokens - spent.usage.output_tokens
    return {
        "limits.output_tokens": min(max_tokens, by_tokens),
        "limits.cost_usd": _affordable_tokens(limits, spent, input_tokens, max_tokens),
    }


def _affordable_tokens(limits: Limits, spent: Spent, input_tokens: int, max_tokens: int) -> int:
    """Output tokens, `max_tokens` at most, that are paid for when all of the input is billed at its dearest price."""
    if limits.cost_usd is None:
        return max_tokens
    assert spent.price is not None, "BUG: a job with limits.cost_usd needs a model with a known price"
    price = spent.price.at(input_tokens)
    # Whether the prompt cache is read, written or missed is the provider's to say, and known only afterwards.
    dearest = max(price.input, price.cache_write, price.cache_read)
    left = (Decimal(str(limits.cost_usd)) - spent.cost) * _MILLION - input_tokens * dearest
    if left < 0:
        return 0
    return min(max_tokens, int(left / price.output)) if price.output else max_tokens


def nearly_reached(limits: Limits, spent: Spent, *, seconds: float, seconds_left: float) -> dict[LimitName, str]:
    """Limits of which no more than a tenth is left (or three turns), with what is left in words.

    `seconds` is the agent's time in all.
    """
    left: dict[LimitName, tuple[float, float, str]] = {
        "limits.turns": (limits.turns - spent.turns, max(limits.turns, _FEW_TURNS / _NEARLY), "{:.0f} replies"),
        "limits.seconds": (seconds_left, seconds, "little time"),
    }
    if limits.cost_usd is not None:
        left["limits.cost_usd"] = (limits.cost_usd - float(spent.cost), limits.cost_usd, "${:.4f}")
    if limits.output_tokens is not None:
        used = spent.usage.output_tokens
        left["limits.output_tokens"] = (limits.output_tokens - used, limits.output_tokens, "{:.0f} output tokens")
    return {name: words.format(rest) for name, (rest, whole, words) in left.items() if rest <= whole * _NEARLY}
