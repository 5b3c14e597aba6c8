"""JSON as settings files have it: with comments and commas too many. Every value knows where it stands."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Any

from runner.document.tree import Document, Mark, Stop, report
from runner.document.words import KeyPath, shown
from runner.errors import ConfigError

DEEPEST = 32
_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER = re.compile(r"-?\d{1,400}(?:\.\d{1,400})?(?:[eE][+-]?\d{1,4})?")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\.)*+"')
_WORDS = {"true": True, "false": False, "null": None}


def parse(text: str, source: str) -> Document:
    """Raises ConfigError."""
    document = Document(source=source)
    try:
        document.tree = _Reader(text.removeprefix("\ufeff"), document).whole()
    except Stop as stop:
        document.complain((), stop.text, stop.mark)
        raise ConfigError(report(document.problems)) from None
    return document


class _Reader:
    def __init__(self, text: str, document: Document) -> None:
        self._text = text
        self._at = 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._document = document

    def whole(self) -> Any:
        value = self._value(())
        if self._next():
            raise self._stop("something stands behind the end")
        return value

    def _value(self, path: KeyPath) -> Any:
        first = self._next()
        self._document.values[path] = self._mark()
        if len(path) > DEEPEST:
            raise self._stop(f"is nested more than {DEEPEST} levels deep")
        match first:
            case "{":
                return self._object(path)
            case "[":
                return self._array(path)
            case '"':
                return self._string()
        return self._word_or_number()

    def _object(self, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._at += 1
        while (first := self._next()) != "}":
            if first != '"':
                raise self._stop('a key in "double quotes", or } is expected')
            mark = self._mark()
            key = self._string()
            if key in found:
                raise Stop(mark, f"the key {shown(key)} stands here twice")
            self._document.keys[*path, key] = mark
            self._expect(":")
            found[key] = self._value((*path, key))
            self._comma_or("}")
        self._at += 1
        return found

    def _array(self, path: KeyPath) -> list[Any]:
        found: list[Any] = []
        self._at += 1
        while self._next() != "]":
            found.append(self._value((*path, len(found))))
            self._comma_or("]")
        self._at += 1
        return found

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if not found:
            raise self._stop("is no text on one line, in double quotes")
        try:
            text = str(json.loads(found[0]))
            text.encode()
        except json.JSONDecodeError as error:
            raise self._stop(f"is no text in double quotes: {error.msg}") from None
        except UnicodeEncodeError:
            raise self._stop("holds half a character (a surrogate without its other half)") from None
        self._at = found.end()
        return text

    def _word_or_number(self) -> Any:
        rest = self._text[self._at : self._at + 5]
        for word, value in _WORDS.items():
            if rest.startswith(word):
                self._at += len(word)
                return value
        found = _NUMBER.match(self._text, self._at)
        if not found:
            raise self._stop(f"a value is expected (got {shown(rest)})" if rest else "ends too early")
        self._at = found.end()
        return json.loads(found[0])

    def _comma_or(self, end: str) -> None:
        if self._next() != end:
            self._expect(",")

    def _expect(self, char: str) -> None:
        if self._next() != char:
            raise self._stop(f"{char!r} is expected")
        self._at += 1

    def _next(self) -> str:
        """The next character that means something; "" at the end."""
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
        return self._text[self._at : self._at + 1]

    def _mark(self) -> Mark:
        line = bisect_right(self._lines, self._at)
        return Mark(self._document.source, line, self._at - self._lines[line - 1] + 1)

    def _stop(self, text: str) -> Stop:
        return Stop(self._mark(), text)
