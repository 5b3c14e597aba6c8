"""Patterns of paths, of systems in whose patterns `*` is any text, slashes too, as patterns of ours."""

from __future__ import annotations

import re
from typing import NamedTuple

from runner.policy.paths import parse_path


class TextGlob(NamedTuple):
    """A pattern taken apart: where it starts (`/`, `~/` or `//`), and its text behind that."""

    anchor: str
    text: str


def text_glob(pattern: str) -> TextGlob:
    """`$HOME/x` is `~/x`; what is neither absolute nor in the home starts at the repository."""
    for prefix, anchor in (("~/", "~/"), ("$HOME/", "~/"), ("/", "//")):
        if pattern.startswith(prefix):
            return TextGlob(anchor, pattern[len(prefix) :])
    return TextGlob("/", pattern.removeprefix("./"))


def narrow(pattern: str) -> str:
    """A pattern of ours that covers nothing else, but for what lies in a folder of such a name. Raises ValueError."""
    anchor, text = text_glob(pattern)
    leading = text.startswith("*") and anchor == "/"
    text = text.lstrip("*") if leading else text
    if text.endswith("/*"):
        text += "*"
    # A star that is a whole folder's name may stand for several.
    body = _escaped(text).replace("/*/", "/*/**/")
    if not body and not leading:
        raise ValueError("names no path")
    return _checked(f"/**/*{body}" if leading else f"{anchor}{body}")


def wide(pattern: str) -> str | None:
    """A pattern of ours that covers all that it does; None when only "everything" does."""
    anchor, text = text_glob(pattern)
    rest = text.lstrip("*")
    begin = re.split(r"[*?]", rest)[0]
    body = _escaped(begin) + ("*" if begin != rest else "")
    if text == rest:
        return _tried(f"{anchor}{body}") if begin.strip("/") else None
    return _tried(f"//**{'' if begin.startswith('/') else '/*'}{body}") if begin.strip("/") else None


def _escaped(text: str) -> str:
    """What is plain there, and a sign to us."""
    return re.sub(r"([\\\[\]{}])", r"\\\1", text)


def _checked(pattern: str) -> str:
    parse_path(pattern)
    if pattern != pattern.strip():
        raise ValueError("ends in a space, which no rule can say")
    return pattern


def _tried(pattern: str) -> str | None:
    try:
        return _checked(pattern)
    except ValueError:
        return None
