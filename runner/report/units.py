"""How amounts are written for people."""

from __future__ import annotations

from decimal import Decimal


def usd(amount: Decimal | float | None) -> str:
    """`$12.34`, `$0.0123`, `unknown`."""
    if amount is None:
        return "unknown"
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.4f}"


def duration(seconds: float) -> str:
    """`15 ms`, `4.2 s`, `3 min 05 s`, `30 min`, `2 h 07 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(amount: int) -> str:
    """`512 B`, `1.4 kB`, `3.0 MB`."""
    if amount < 1000:
        return f"{amount} B"
    value = amount / 1000
    for unit in ("kB", "MB"):
        if value < 999.5:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def plural(count: int, noun: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def short(amount: int) -> str:
    """`950`, `12.3k`, `4.5M`."""
    if amount < 1000:
        return str(amount)
    if amount < 999_950:
        return f"{amount / 1000:.1f}k"
    return f"{amount / 1e6:.1f}M"
