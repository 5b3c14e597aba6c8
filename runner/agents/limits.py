"""What a job may still do: a request is made only when its worst case fits under every limit.

Of money there is a ledger, which the model asks itself (`runner.models.metered`); here it is only counted, so that the
model can be told when it nears its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import reduce
from typing import Literal

from runner.messages import Price, Reply, Usage
from runner.models.base import MIN_REPLY_TOKENS
from runner.task import Limits
from runner.transcript import AnyEvent, Resumed, of_kind

LimitName = Literal["limits.turns", "limits.seconds", "limits.cost_usd", "limits.output_tokens"]

_NEARLY = 0.1
"""The share of a limit that is left when the model is told about it."""
_FEW_TURNS = 3


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

    @classmethod
    def before(cls, events: Iterable[AnyEvent], price: Price | None) -> Spent:
        """What earlier attempts used besides the replies that will be played, as the transcript's beginning says."""
        earlier = of_kind(events, Resumed)
        return cls(
            price=price,
            usage=sum((event.usage for event in earlier), Usage()),
            cost=sum((event.cost_usd for event in earlier if event.cost_usd is not None), Decimal(0)),
        )

    def after(self, reply: Reply) -> Spent:
        """`reply.wasted` is not in it: see `after_failures`."""
        return replace(self._with(reply.usage), turns=self.turns + 1)

    def after_failures(self, usages: Iterable[Usage]) -> Spent:
        return reduce(Spent._with, usages, self)

    def doubtful_usd(self, usage: Usage, worst_usage: Usage) -> Decimal | None:
        """What a try that is known to be billed as `usage` may have cost besides, at most; None: unknown."""
        if worst_usage == usage:
            return Decimal(0)
        return max(Decimal(0), self.price.cost_usd(worst_usage) - self.price.cost_usd(usage)) if self.price else None

    def _with(self, usage: Usage) -> Spent:
        # Costs are added up, not computed from the sum of tokens: long requests may be dearer by the token.
        cost = self.price.cost_usd(usage) if self.price else Decimal(0)
        return replace(self, usage=self.usage + usage, cost=self.cost + cost)


def room(limits: Limits, spent: Spent, *, max_tokens: int, seconds_left: float) -> int | LimitName:
    """Tokens that the next reply may have, or the limit that leaves no room for one."""
    if spent.turns >= limits.turns:
        return "limits.turns"
    if seconds_left <= 0:
        return "limits.seconds"
    left = _tokens_left(limits, spent, max_tokens)
    return left if left >= min(MIN_REPLY_TOKENS, max_tokens) else "limits.output_tokens"


def overshot_by(limits: Limits, spent: Spent, *, max_tokens: int) -> LimitName | None:
    """The limit that a reply could overshoot, None when it fits whatever comes of it."""
    return "limits.output_tokens" if _tokens_left(limits, spent, max_tokens) < max_tokens else None


def _tokens_left(limits: Limits, spent: Spent, max_tokens: int) -> int:
    """`max_tokens` at most."""
    return (
        max_tokens
        if limits.output_tokens is None
        else min(max_tokens, limits.output_tokens - spent.usage.output_tokens)
    )


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
