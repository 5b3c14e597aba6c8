"""Arithmetic of the shell. It reads variables as arithmetic again, in which an index such as `a[$(id)]` runs id."""

from __future__ import annotations

import re

from runner.document.words import shown
from runner.policy.variables import is_harmless_name
from runner.policy.words import COUNT, NAME, Around, Stop, Word

COMPARISONS = ("-eq", "-ne", "-lt", "-le", "-gt", "-ge")
"""Operators of `[[ … ]]` between which there is arithmetic."""
_TERM = re.compile(
    r"\s+|0[xX][0-9a-fA-F]+|[0-9]+(?![#\w])|\$[#?]|[-+*/%<>=!&|^~?:,()]"
    rf"|\$?(?P<name>{NAME})(?![\w\[])|\$\{{(?P<braced>{NAME})\}}|\$\{{\#{NAME}(?:\[[@*]\])?\}}",
    re.ASCII,
)
_COUNT = re.compile(COUNT, re.ASCII)
_STEP = re.compile(rf"\(\(\s*(?:(?:\+\+|--){NAME}|{NAME}(?:\+\+|--|[-+*]?=-?[0-9]+))\s*\)\)", re.ASCII)


def read_arithmetic(text: str, start: int, end: int, around: Around) -> None:
    """Raises Stop for arithmetic in which a command can hide, as far as that does not depend on variables."""
    at = start
    while at < end:
        if found := _TERM.match(text, at, end):
            if name := found["name"] or found["braced"]:
                if not found[0].startswith("$") and not is_harmless_name(name):
                    raise Stop(f"arithmetic with {name}")  # which it may set
                around.evaluate(name)
            at = found.end()
        elif _COUNT.match(text, at, end):
            at = around.substitution(at)
        else:
            raise Stop(f"arithmetic with {shown(text[at : min(at + 12, end)])}")


def read_operand(word: Word, around: Around) -> None:
    """One side of a comparison of numbers in `[[ … ]]`. Raises Stop."""
    if found := re.fullmatch(rf"\$?({NAME})|\$\{{({NAME})\}}", word.text, re.ASCII):
        around.evaluate(found[1] or found[2])
    elif not re.fullmatch(rf"-?[0-9]+|\$[?#]|\$\{{\#{NAME}\}}|{COUNT}", word.text, re.ASCII):
        raise Stop(f"a comparison with {shown(word.text)}, which may hold a command; use [ … ]")


def is_step(text: str) -> bool:
    """`((i++))` and the like. To some shells that is a command in parentheses, of a name that no program has."""
    return _STEP.fullmatch(text) is not None
