"""Coloured lines on standard output, whatever it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from rich.text import Text

from runner.batch.console import PlainConsole

WIDTH = 80

_ASCII = str.maketrans({"━": "#", "╍": "=", "─": "-", "·": "|", "…": "~", "→": ">"})
"""For what is ours, where the terminal's encoding has no such characters."""


def screen_width() -> int:
    """80, or less where the terminal has less."""
    try:
        return min(WIDTH, os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH)
    except (OSError, ValueError):
        return WIDTH


def print_lines(lines: Iterable[Text]) -> None:
    """Each line as it is, in colours at a terminal. Nothing in a Text acts on one if what it was made of does not."""
    console = PlainConsole(sys.stdout, width=WIDTH)
    for line in lines:
        if not console.encoding.startswith("utf"):
            line.plain = line.plain.translate(_ASCII)
        console.print_whole(line)
