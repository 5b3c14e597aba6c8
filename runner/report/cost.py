"""cost.json: what each model and each turn used and cost."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from runner.result import Payment, billed, payments
from runner.transcript import AnyEvent

COST_VERSION = 1


def cost_table(events: Sequence[AnyEvent]) -> dict[str, Any]:
    """The file as JSON values; USD as strings of digits, null where a price is unknown. Fields: docs/artifacts.md."""
    bill = billed(events)
    return {
        "version": COST_VERSION,
        "currency": "USD",
        "total_usd": _digits(bill.cost_usd),
        "complete": bill.complete,
        "doubtful_usd": _digits(bill.doubtful_usd),
        "usage": bill.usage.model_dump(),
        "models": [model.model_dump(mode="json") for model in bill.models],
        "turns": [_row(payment) for payment in payments(events)],
    }


def _row(payment: Payment) -> dict[str, Any]:
    return {
        "turn": payment.turn,
        "time": payment.time,
        "model": payment.model,
        "answered": payment.answered,
        "played": payment.played,
        "usage": payment.usage.model_dump(),
        "wasted": payment.wasted.model_dump(),
        "cost_usd": _digits(payment.cost_usd),
    }


def _digits(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")
