"""What the models of a job were used for, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from runner.messages import Usage
from runner.result.schema import ModelCost
from runner.transcript import AnyEvent, ModelFailed, ModelReplied, ModelRetried, Resumed, of_kind

EARLIER = "earlier attempts"
"""Stands for the model of what earlier attempts used besides the replies that are played."""


class Payment(NamedTuple):
    """One request, or what earlier attempts used besides the replies that are played."""

    turn: int
    """0: earlier attempts."""
    time: str
    model: str
    answered: bool
    """False: it failed for good."""
    played: bool
    """An earlier attempt paid for it."""
    usage: Usage
    """Failed tries included."""
    wasted: Usage
    """Of failed tries."""
    cost_usd: Decimal | None
    """None when unknown."""


class Bill(NamedTuple):
    """What the models were used for."""

    replies: int
    models: tuple[ModelCost, ...]
    usage: Usage
    cost_usd: Decimal | None
    """None when the price of a reply is unknown."""
    complete: bool
    """Whether every price is known, of failed requests too, and nothing is doubtful."""
    doubtful_usd: Decimal
    """At most so much more was billed, as far as prices are known."""
    played: int
    """Replies that an earlier attempt paid for: they count once, here."""


def billed(events: Sequence[AnyEvent]) -> Bill:
    """Usage and cost per model and in total, failed requests included; of an unfinished transcript: so far."""
    paid, resumed = list(payments(events)), of_kind(events, Resumed)
    paid += [unplayed for event in resumed if (unplayed := _unplayed(event, paid))]
    models = tuple(_model_cost(model, paid) for model in dict.fromkeys(payment.model for payment in paid))
    priced = all(payment.cost_usd is not None for payment in paid if payment.answered or payment.model == EARLIER)
    doubts = [event.cost_doubtful_usd for event in events if isinstance(event, Resumed | ModelRetried | ModelFailed)]
    played = sum(payment.played for payment in paid)
    unknown = any(payment.cost_usd is None and payment.usage.total_tokens for payment in paid)
    return Bill(
        replies=sum(payment.answered for payment in paid),
        models=models,
        usage=_sum(model.usage for model in models),
        cost_usd=_total(paid) if priced else None,
        complete=priced and not unknown and not any(doubt is None or doubt for doubt in doubts),
        doubtful_usd=sum((doubt for doubt in doubts if doubt is not None), Decimal()),
        played=played,
    )


def payments(events: Iterable[AnyEvent]) -> Iterator[Payment]:
    """All that was paid for, in the order of the transcript."""
    for event in events:
        match event:
            case ModelReplied(turn=turn, time=time, reply=reply, cost_usd=cost):
                used = reply.usage + reply.wasted
                yield Payment(turn, time, reply.model, True, reply.played, used, reply.wasted, cost)
            case ModelFailed(turn=turn, time=time, wasted=wasted, cost_usd=cost):
                yield Payment(turn, time, event.model or "unknown", False, False, wasted, wasted, cost)
            case Resumed(time=time, usage=used, cost_usd=cost) if used.total_tokens or cost:
                yield Payment(0, time, EARLIER, False, False, used, used, cost)


def _unplayed(event: Resumed, paid: Iterable[Payment]) -> Payment | None:
    """The replies that were paid for, and that the job did not come to play again."""
    again = [payment for payment in paid if payment.played]
    played = _sum(payment.usage for payment in again)
    left = Usage(**{name: getattr(event.replies_usage, name) - getattr(played, name) for name in Usage.model_fields})
    cost = None if event.replies_cost_usd is None else event.replies_cost_usd - _total(again)
    return Payment(0, event.time, EARLIER, False, False, left, left, cost) if left.total_tokens else None


def _model_cost(model: str, paid: Iterable[Payment]) -> ModelCost:
    mine = [payment for payment in paid if payment.model == model]
    unknown = any(payment.cost_usd is None and (payment.answered or payment.usage.total_tokens) for payment in mine)
    return ModelCost(
        model=model,
        replies=sum(payment.answered for payment in mine),
        usage=_sum(payment.usage for payment in mine),
        wasted=_sum(payment.wasted for payment in mine),
        cost_usd=None if unknown else _total(mine),
    )


def _total(paid: Iterable[Payment]) -> Decimal:
    """Of what is known."""
    return sum((payment.cost_usd for payment in paid if payment.cost_usd is not None), Decimal())


def _sum(usages: Iterable[Usage]) -> Usage:
    return sum(usages, Usage())
