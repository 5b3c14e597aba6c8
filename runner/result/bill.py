"""What the models of a job were used for, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from runner.messages import Usage
from runner.result.schema import ModelCost
from runner.transcript import AnyEvent, ModelFailed, ModelReplied, of_kind


class Bill(NamedTuple):
    """What the models were used for."""

    replies: int
    models: tuple[ModelCost, ...]
    usage: Usage
    cost_usd: Decimal | None
    """None when the price of a reply is unknown."""
    complete: bool
    """Whether every price is known, of failed requests too."""


def billed(events: Iterable[AnyEvent]) -> Bill:
    """Usage and cost per model and in total, failed requests included; of an unfinished transcript: so far."""
    paid = [event for event in events if isinstance(event, ModelReplied | ModelFailed)]
    models = tuple(_model_cost(model, paid) for model in dict.fromkeys(model_of(event) for event in paid))
    known = [event.cost_usd for event in paid if event.cost_usd is not None]
    priced = all(event.cost_usd is not None for event in paid if isinstance(event, ModelReplied))
    return Bill(
        replies=sum(model.replies for model in models),
        models=models,
        usage=_sum(model.usage for model in models),
        cost_usd=sum(known, Decimal()) if priced else None,
        complete=all(event.cost_usd is not None or not usage_of(event).total_tokens for event in paid),
    )


def model_of(event: ModelReplied | ModelFailed) -> str:
    return event.reply.model if isinstance(event, ModelReplied) else event.model or "unknown"


def usage_of(event: ModelReplied | ModelFailed) -> Usage:
    """All tokens of a request, failed tries included."""
    return event.reply.usage + event.reply.wasted if isinstance(event, ModelReplied) else event.wasted


def wasted_of(event: ModelReplied | ModelFailed) -> Usage:
    return event.reply.wasted if isinstance(event, ModelReplied) else event.wasted


def _model_cost(model: str, paid: Iterable[ModelReplied | ModelFailed]) -> ModelCost:
    mine = [event for event in paid if model_of(event) == model]
    costs = [event.cost_usd for event in mine if event.cost_usd is not None or usage_of(event).total_tokens]
    return ModelCost(
        model=model,
        replies=len(of_kind(mine, ModelReplied)),
        usage=_sum(usage_of(event) for event in mine),
        wasted=_sum(wasted_of(event) for event in mine),
        cost_usd=None if None in costs else sum((cost for cost in costs if cost is not None), Decimal()),
    )


def _sum(usages: Iterable[Usage]) -> Usage:
    return sum(usages, Usage())
