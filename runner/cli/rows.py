"""Labelled rows for a terminal of 80 columns: what came from files is shown, and does nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from runner.report.visible import one_line

WIDTH = 80

Row = tuple[str, str]
"""A label and what is to be said under it; an empty label goes on with the row above."""


def rows_text(rows: Iterable[Row], *, indent: str = "  ") -> str:
    """Each row behind its label, wrapped to stand below itself; ends without a newline."""
    shown = [(label, one_line(text)) for label, text in rows]
    width = max((len(label) for label, _ in shown), default=0)
    return "\n".join(_row(f"{indent}{label:<{width}}  ", text) for label, text in shown)


def _row(label: str, text: str) -> str:
    hang = " " * len(label)
    return textwrap.fill(
        text, WIDTH, initial_indent=label, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
    ) if text else label.rstrip()  # fmt: skip
