"""How keys and values are named in messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

KeyPath = tuple[str | int, ...]
"""`("checks", "run", 0)` for the first entry of `checks.run`."""


def key_text(path: KeyPath) -> str:
    """A key as the user writes it: `limits.turns`, `allow[2]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(r"[\w-]{1,60}", part) else shown(part))
    return text


def shown(value: object) -> str:
    """A value for a message: short, on one line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            text = repr(value)
            return text if len(text) <= 80 else f"{text[:76]}…{text[-1]}"
    return str(value)


def near(word: str, choices: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The choice that was probably meant; `likeness` is 1 for the same word."""
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=likeness)
    return lowered[found[0]] if found else None
