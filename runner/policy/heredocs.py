"""Here-documents, taken out of a script before it is parsed: the grammar takes little that may stand behind `<<`.

A body becomes a comment of the same length, and its operator a `<`. Whoever reads the script must find each of them
just there: a redirection, and a comment. A mistake made here, about quotes, is noticed so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from runner.policy.words import Stop


@dataclass(frozen=True, slots=True)
class HereDocument:
    body: str
    """What stands between, without the last line."""
    delimiter: str
    quoted: bool
    """The shell replaces nothing in it."""
    comment: tuple[int, int]
    """Where its body now is a comment."""


class _Operator(NamedTuple):
    at: int
    tabs: bool
    """`<<-`: tabs before the last line do not count."""
    delimiter: str
    quoted: bool


_TOKEN = re.compile(
    r"""\\. | \$'(?:[^'\\]|\\.)*' | '[^']*' | ["`\n] | \$?\( | \) | (?<![^\s;&|()])\#[^\n]* | <<<? """,
    re.VERBOSE | re.DOTALL,
)
_TOKEN_IN_QUOTES = re.compile(r'\\.|["`]|\$\(', re.DOTALL)
_MOST = 8
"""On one line."""
_OPERATOR = re.compile(
    r"""<<(-?)[ \t]*(?:'([\w.-]+)'|"([\w.-]+)"|\\([A-Za-z_][\w.-]*)|([A-Za-z_][\w.-]*))(?=[\s;&|<>()]|\Z)""", re.ASCII
)


def cut_out(text: str) -> tuple[str, dict[int, HereDocument]]:
    """The text without the bodies, and the here-documents by the place of their operators. What does not look like one
    stays as it is. Raises Stop."""
    found: dict[int, HereDocument] = {}
    chars = list(text)
    for operator, start, end in _bodies(text) if "<<" in text else ():
        length = 3 if operator.tabs else 2
        chars[operator.at : operator.at + length] = "<".ljust(length)
        chars[start:end] = "#" * (end - start)
        body = text[start : text.rfind("\n", start - 1, end) + 1]
        if "\\\n" in body and not operator.quoted:
            raise Stop("a here-document with a broken line; put its delimiter in quotes")
        found[operator.at] = HereDocument(body, operator.delimiter, operator.quoted, (start, end))
    return "".join(chars), found


def _bodies(text: str) -> Iterator[tuple[_Operator, int, int]]:
    """Here-documents, where the bodies begin, and where their last lines end."""
    waiting: list[tuple[_Operator, int]] = []
    depth: list[str] = []
    at = 0
    while token := (_TOKEN_IN_QUOTES if depth[-1:] == ['"'] else _TOKEN).search(text, at):
        at = token.end()
        match token[0]:
            case "\n":
                for operator, level in waiting:
                    # A line break in quotes, or in a substitution that began behind the operator, is not the one.
                    certain = level == len(depth) and "\n" not in text[operator.at : token.start()]
                    last = _last_line(text, at, operator) if certain else None
                    if last is not None:
                        yield operator, at, last
                        at = min(last + 1, len(text))
                waiting = []
            case "<<" if len(waiting) < _MOST:
                if (found := _OPERATOR.match(text, token.start())) and _line_is_whole(text, token.start()):
                    waiting.append((_operator(found), len(depth)))
                    at = found.end()
            case '"' | "`" as quote if depth[-1:] == [quote]:
                depth.pop()
            case '"' | "`" | "(" | "$(" as opening:
                depth.append(opening)
            case ")":
                del depth[-1:]


def _operator(found: re.Match[str]) -> _Operator:
    quoted = found[2] or found[3] or found[4]
    return _Operator(found.start(), found[1] == "-", quoted or found[5], bool(quoted))


def _line_is_whole(text: str, at: int) -> bool:
    """The line's end is no part of a word, as far as can be seen: the body begins behind it."""
    end = text.find("\n", at)
    return end > 0 and text[end - 1] != "\\"


def _last_line(text: str, start: int, operator: _Operator) -> int | None:
    """The end of the line with the delimiter."""
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end]
        if (line.lstrip("\t") if operator.tabs else line) == operator.delimiter:
            return end
        start = end + 1
    return None
