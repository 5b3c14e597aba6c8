"""cost.json: what each model and each turn used and cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from runner.result import billed, model_of, usage_of, wasted_of
from runner.transcript import AnyEvent, ModelFailed, ModelReplied

COST_VERSION = 1


def cost_table(events: Sequence[AnyEvent]) -> dict[str, Any]:
    """The file as JSON values; USD as strings of digits, null where a price is unknown. Fields: docs/artifacts.md."""
    bill = billed(events)
    paid = [event for event in events if isinstance(event, ModelReplied | ModelFailed)]
    return {
        "version": COST_VERSION,
        "currency": "USD",
        "total_usd": _digits(bill.cost_usd),
        "complete": bill.complete,
        "usage": bill.usage.model_dump(),
        "models": [model.model_dump(mode="json") for model in bill.models],
        "turns": [_row(event) for event in paid],
    }


def _row(event: ModelReplied | ModelFailed) -> dict[str, Any]:
    return {
        "turn": event.turn,
        "time": event.time,
        "model": model_of(event),
        "answered": isinstance(event, ModelReplied),
        "usage": usage_of(event).model_dump(),
        "wasted": wasted_of(event).model_dump(),
        "cost_usd": _digits(event.cost_usd),
    }


def _digits(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")
