"""What a scalar means, by the core schema of YAML 1.2 (10.3.2): `no`, `1:30` and dates are text.

What reads differently in YAML 1.1 and 1.2 (`012`) is refused.
"""

from __future__ import annotations

import math
import re

import yaml

from runner.document.words import shown


class Refused(Exception):
    """A scalar that we do not take; the text says why."""


_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def scalar(event: yaml.ScalarEvent) -> str | int | float | bool | None:
    """The value of a scalar by the core schema of YAML 1.2 (10.3.2). Raises Refused."""
    text: str = event.value
    if not event.implicit[0]:
        return _checked(text)
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return _integer(text)
    if re.fullmatch(r"[-+]?0[0-9]+", text):
        raise Refused(
            f"{text[:40]} has a leading zero, which is octal to some readers; write {_unpadded(text)}, or quotes"
        )
    if _NOT_FINITE.fullmatch(text):
        raise Refused(f"{text} is not a finite number; text needs quotes")
    if _FLOAT.fullmatch(text):
        return _finite(text)
    return _checked(text)


def _integer(text: str) -> int:
    value = int(text, 0) if len(text) < 25 else 1 << 64
    if abs(value) >= 1 << 63:
        raise Refused("the number is too large")
    return value


def _unpadded(text: str) -> str:
    return shown((text.lstrip("+-0") or "0") if len(text) < 25 else "it")[1:-1]


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused("the number is too large")
    return value


def _checked(text: str) -> str:
    """Quotes can spell characters that the file itself may not hold."""
    for char in text:
        if (char < " " and char not in "\t\n\r") or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff":
            raise Refused(f"character U+{ord(char):04X} is not allowed in text")
    return text
