"""A question as people read it: every character of the call seen, and what is not shown said."""

from __future__ import annotations

import json
from collections.abc import Iterator

from runner.report.units import plural
from runner.report.visible import exact

MOST_LINES, MOST_CHARS = 30, 2_000
"""Of a call that are shown at once, and of each of its lines."""


def whole(text: str) -> list[str]:
    """The text, line by line: on one line, a comment could seem to swallow the commands after it."""
    return [f"   | {line}" for line in exact(text).split("\n")]


def shortened(text: str, hint: str) -> list[str]:
    """The same, of a long text beginning and end: both ends of a script count. `hint` says where the rest is."""
    lines = [_middle_out(line, hint) for line in whole(text)]
    if len(lines) <= MOST_LINES:
        return lines
    half = MOST_LINES // 2
    return [*lines[:half], f"   [… {plural(len(lines) - 2 * half, 'line')} not shown: {hint} …]", *lines[-half:]]


def summary(text: str) -> str:
    """The text on one line, the ends of its lines seen."""
    return " ".join(exact(text.replace("\n", " ⏎ ")).split())


def arguments(input: str) -> Iterator[str]:
    """All that a call was given, `input` being its JSON: each argument by its name."""
    try:
        given = json.loads(input)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        yield from whole(input)
        return
    for name, value in given.items():
        yield f"   {summary(name)}:"
        yield from whole(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _middle_out(line: str, hint: str) -> str:
    if len(line) <= MOST_CHARS:
        return line
    half = MOST_CHARS // 2
    return f"{line[:half]} [… {len(line) - 2 * half:,} characters not shown: {hint} …] {line[-half:]}"
