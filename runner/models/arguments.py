"""The arguments of a tool call: one plain JSON object, or a reason why not.

Stricter than JSON readers are: what the policy judges, the tool gets and the transcript keeps must be the same value.
"""

from __future__ import annotations

import json
import math
from typing import Any, Never

MAX_DEPTH = 64
"""Of nesting; deeper values break JSON writers further down."""


def parse_arguments(text: str) -> dict[str, Any]:
    """The arguments of a tool call. Raises ValueError, saying why, for whatever is not one plain JSON object."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error.msg} at character {error.pos + 1} of {len(text)}") from None
    except UnicodeEncodeError:
        raise ValueError("not valid JSON: half of a surrogate pair in a string") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object but {_kind_of(value)}")
    if _deeper_than(value, MAX_DEPTH):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ in which of two equal keys they believe; what the policy judged must be what the tool gets.
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise ValueError(f"key {name[:80]!r} is there twice")
        value[name] = item
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse(text)
    return value


def _refuse(text: str) -> Never:
    raise ValueError(f"not valid JSON: {text[:20]} is not a number")


def _kind_of(value: Any) -> str:
    kinds = {"list": "an array", "str": "a string", "bool": "a boolean", "NoneType": "null"}
    return kinds.get(type(value).__name__, "a number")


def _deeper_than(value: Any, depth: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_deeper_than(item, depth - 1) for item in inner)
