"""What a model costs, by its exact id, from the genai-prices package; None when that does not know it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from runner.messages import LongInputPrice, Price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_DATED = re.compile(r"-\d{8}$")
_RATES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    # The five-minute cache, which is the one we ask for.
    "cache_write": "cache_write_mtok",
}


@cache
def price_of(model: str) -> Price | None:
    """The price of an Anthropic model today, or None.

    The id must be one that genai-prices names, or such an id with a date (`-20250929`), which is how Anthropic names
    its snapshots. The package itself also matches by prefixes and substrings, so that `claude-sonnet-4-6-cheap` would
    get the price of `claude-sonnet-4-6`; a guess is not a price.
    """
    for wanted in (model, _DATED.sub("", model)):
        for info in known_models():
            if wanted in _names(info):
                return _price(info.get_prices(datetime.now(UTC)))
    return None


def known_models() -> list[ModelInfo]:
    """What genai-prices knows of Anthropic; the first call imports it."""
    from genai_prices.data import providers  # noqa: PLC0415  0.1 s, which `--help` and `check` do not need

    return next(provider.models for provider in providers if provider.id == "anthropic")


def _names(info: ModelInfo) -> set[str]:
    """Ids that mean exactly this model: its own and the aliases that are matched whole."""
    names = {info.id, *_equals(info.match)}
    return names | {name.removesuffix("-latest") for name in names}


def _equals(clause: Any) -> set[str]:
    # The clauses have one field each, named after what they do; `or_` holds more clauses.
    if alternatives := getattr(clause, "or_", None):
        return {name for alternative in alternatives for name in _equals(alternative)}
    name = getattr(clause, "equals", None)
    return {name} if isinstance(name, str) else set()


def _price(prices: ModelPrice) -> Price | None:
    rates = {field: getattr(prices, name, None) for field, name in _RATES.items()}
    if any(rate is None for rate in rates.values()):
        return None
    starts = {tier.start for rate in rates.values() for tier in getattr(rate, "tiers", ())}
    above = tuple(LongInputPrice(input_tokens=start, price=_flat(rates, start + 1)) for start in sorted(starts))
    return _flat(rates, 0).model_copy(update={"above": above})


def _flat(rates: dict[str, Any], input_tokens: int) -> Price:
    return Price.model_validate({field: _rate_at(rate, input_tokens) for field, rate in rates.items()})


def _rate_at(rate: Any, input_tokens: int) -> Decimal:
    """USD per million tokens in a request with that many input tokens."""
    if isinstance(rate, Decimal):
        return rate
    passed = [tier.price for tier in rate.tiers if input_tokens > tier.start]
    return Decimal(passed[-1] if passed else rate.base)
