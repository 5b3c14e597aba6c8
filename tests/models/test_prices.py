"""Prices by exact model id: a guess is not a price."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as PackageUsage
from genai_prices import calc_price
from genai_prices.data import providers

from runner.messages import Usage
from runner.models import price_of

KNOWN = [
    model.id
    for provider in providers
    if provider.id == "anthropic"
    for model in provider.models
    if price_of(model.id) is not None
]


def test_the_default_model_has_a_price() -> None:
    price = price_of("claude-sonnet-4-6")
    assert price is not None
    assert (price.input, price.output) == (Decimal(3), Decimal(15))
    assert (price.cache_read, price.cache_write) == (Decimal("0.3"), Decimal("3.75"))


@pytest.mark.parametrize(
    "model",
    [
        "",
        "claude",
        "claude-sonnet",
        "claude-sonnet-4-6-cheap",
        "claude-sonnet-4-60",
        "claude-sonnet-4-6-2026",
        "claude-sonnet-4-6-20260101-x",
        "my-claude-sonnet-4-6",
        "CLAUDE-SONNET-4-6",
        "claude-sonnet-4.6",
        " claude-sonnet-4-6",
        "anthropic/claude-sonnet-4-6",
        "gpt-5",
        "scripted",
    ],
)
def test_what_is_only_like_a_known_id_has_no_price(model: str) -> None:
    assert price_of(model) is None


@pytest.mark.parametrize(
    ("dated", "plain"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-opus-4-20250514", "claude-opus-4-0"),
        ("claude-3-5-haiku-20241022", "claude-3-5-haiku-latest"),
    ],
)
def test_a_dated_snapshot_costs_what_its_model_costs(dated: str, plain: str) -> None:
    assert price_of(dated) == price_of(plain) is not None


@pytest.mark.parametrize("model", KNOWN)
@pytest.mark.parametrize("input_tokens", [1000, 100_000, 100_001, 200_000, 200_001, 900_000])
def test_costs_are_those_of_the_package_long_inputs_included(model: str, input_tokens: int) -> None:
    usage = Usage(input_tokens=input_tokens - 700, output_tokens=321, cache_read_tokens=500, cache_write_tokens=200)
    price = price_of(model)
    assert price is not None
    theirs = calc_price(
        # Their input_tokens includes what went through the cache.
        PackageUsage(input_tokens=input_tokens, cache_read_tokens=500, cache_write_tokens=200, output_tokens=321),
        model,
        provider_id="anthropic",
        genai_request_timestamp=datetime.now(UTC),
    )
    assert price.cost_usd(usage) == theirs.total_price


def test_a_model_without_cache_prices_has_no_price() -> None:
    assert price_of("claude-2") is None


def test_the_package_is_imported_only_for_a_price() -> None:
    code = "import sys, runner.models; print(*(m in sys.modules for m in ('genai_prices', 'anthropic', 'httpx2')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == ["False", "False", "False"]
