"""YAML into a tree.

What is accepted is a plain part of YAML 1.2 (https://yaml.org/spec/1.2.2/): one document of mappings with text keys,
lists and scalars of the core schema. Anchors, aliases, merge keys, tags, directives and duplicate keys are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from runner.document.scalars import Refused, scalar
from runner.document.tree import Document, Mark, Stop
from runner.document.words import KeyPath, shown

MAX_DEPTH = 32
MAX_NODES = 20_000


def compose(text: str, document: Document) -> None:
    """Fill the document from YAML. Raises Stop when reading cannot go on."""
    composer = _Composer(document)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        raise Stop(_syntax_mark(error, document), _syntax(error, text)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise Stop(Mark(document.source, 1, 1), f"is not YAML: {' '.join(str(error).split())}") from None


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being read."""

    into: dict[str, Any] | list[Any]
    path: KeyPath | None
    """None: inside something that was refused; no place in it is remembered."""
    key: str | None = None
    discard: bool = False
    """The value that comes next belongs to a key that was refused."""


class _Composer:
    """Builds the tree from the parser's events, so that nothing is ever expanded and depth and size are bounded."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._stack: list[_Frame] = []
        self._nodes = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        mark = _mark(event.start_mark, self._document)
        match event:
            case yaml.DocumentStartEvent():
                self._begin(event, mark)
            case yaml.NodeEvent():
                self._count(mark)
                frame = self._stack[-1] if self._stack else None
                if frame and isinstance(frame.into, dict) and frame.key is None:
                    self._take_key(event, mark, frame, frame.into)
                else:
                    self._take_value(event, mark, frame)
            case yaml.CollectionEndEvent():
                self._stack.pop()

    def _begin(self, event: yaml.DocumentStartEvent, mark: Mark) -> None:
        self._documents += 1
        if self._documents > 1:
            raise Stop(mark, "a second document begins here; write one document to a file")
        if event.version or event.tags:
            self._document.complain((), "directives such as %YAML are not allowed", mark)

    def _count(self, mark: Mark) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Stop(mark, f"more than {MAX_NODES:,} entries")
        if len(self._stack) >= MAX_DEPTH:
            raise Stop(mark, f"nested more than {MAX_DEPTH} levels deep")

    def _take_key(self, event: yaml.NodeEvent, mark: Mark, frame: _Frame, into: dict[str, Any]) -> None:
        key, refusal = _key(event)
        path = None if frame.path is None else (*frame.path, key)
        if not refusal and key in into:
            first = f" (first on line {self._document.keys[path].line})" if path in self._document.keys else ""
            refusal = f"is there twice{first}; remove one"
        frame.key, frame.discard = key, bool(refusal)
        if refusal:
            self._document.complain(path or (), refusal, mark)
        elif path is not None:
            self._document.keys[path] = mark
        if isinstance(event, yaml.CollectionStartEvent):
            self._stack.append(_Frame(_empty(event), None))

    def _take_value(self, event: yaml.NodeEvent, mark: Mark, frame: _Frame | None) -> None:
        path = _next_path(frame)
        value, refusal = _value(event)
        if path is not None:
            self._document.values[path] = mark
        if refusal:
            self._document.complain(path or (), refusal, mark)
            self._document.refused.add(path or ())
        self._put(value, frame)
        if isinstance(event, yaml.CollectionStartEvent):
            self._stack.append(_Frame(value, path))

    def _put(self, value: Any, frame: _Frame | None) -> None:
        if frame is None:
            self._document.tree = value
        elif isinstance(frame.into, list):
            frame.into.append(value)
        else:
            if not frame.discard:
                frame.into[frame.key or ""] = value
            frame.key, frame.discard = None, False


def _next_path(frame: _Frame | None) -> KeyPath | None:
    if frame is None:
        return ()
    if frame.path is None or frame.discard:
        return None
    return (*frame.path, len(frame.into) if isinstance(frame.into, list) else frame.key or "")


def _key(event: yaml.NodeEvent) -> tuple[str, str]:
    """A key, and why it is refused ("" when it is not)."""
    if not isinstance(event, yaml.ScalarEvent):
        return "?", _refusal(event) or "a key must be text"
    if event.implicit[0] and event.value == "<<":
        return "<<", "merge keys are not allowed; write the keys out"
    value, refusal = _value(event)
    if not refusal and not isinstance(value, str):
        refusal = f"a key must be text; write {shown(event.value)} in quotes"
    return event.value, refusal


def _value(event: yaml.NodeEvent) -> tuple[Any, str]:
    """A value (a list or mapping still empty), and why it is refused ("" when it is not)."""
    refusal = _refusal(event)
    if isinstance(event, yaml.CollectionStartEvent):
        return _empty(event), refusal
    if refusal or not isinstance(event, yaml.ScalarEvent):
        return None, refusal
    try:
        return scalar(event), ""
    except Refused as error:
        return None, str(error)


def _empty(event: yaml.CollectionStartEvent) -> dict[str, Any] | list[Any]:
    return {} if isinstance(event, yaml.MappingStartEvent) else []


def _refusal(event: yaml.NodeEvent) -> str:
    """Why a node may not be there, "" when it may."""
    anchor = (event.anchor or "")[:40]
    if isinstance(event, yaml.AliasEvent):
        return f"aliases (*{anchor}) are not allowed; write the value out"
    if anchor:
        return f"anchors (&{anchor}) are not allowed; write values out where they are used"
    if tag := getattr(event, "tag", None):
        return f"tags ({shown(tag)}) are not allowed; plain values have the right type"
    return ""


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    """What the parser says, and what usually helps."""
    problem = " ".join((error.problem or "is not YAML").split())
    context = f" {' '.join(error.context.split())}" if error.context else ""
    hint = next((hint for start, hint in _HINTS.items() if problem.startswith(start)), "")
    if "tab character" in problem or ("any token" in problem and _char_at(text, error.problem_mark) == "\t"):
        return "a tab cannot indent; use spaces"
    return f"is not YAML{context}: {problem}{hint and f'; {hint}'}"


_HINTS = {
    "mapping values are not allowed": "put text that holds ': ' in quotes, or indent",
    "could not find expected ':'": "is a ':' missing after a key, or the indentation wrong?",
    "found character": "put text that starts with this character in quotes",
    "found unexpected end of stream": "a quote or bracket is not closed",
    "did not find expected key": "is the indentation wrong, or a quote too many?",
    "did not find expected '-' indicator": "is the indentation wrong?",
    "found unknown escape character": "in double quotes a backslash is written twice; single quotes take it as it is",
}


def _syntax_mark(error: yaml.MarkedYAMLError, document: Document) -> Mark:
    """Where the mistake is: for something never closed, where it was opened."""
    unclosed = (error.problem or "").startswith("found unexpected end of stream")
    return _mark((error.context_mark if unclosed else None) or error.problem_mark, document)


def _mark(mark: Any, document: Document) -> Mark:
    return Mark(document.source, mark.line + 1, mark.column + 1) if mark else Mark(document.source, 1, 1)


def _char_at(text: str, mark: Any) -> str:
    lines = re.split("\r\n|\r|\n", text)
    return lines[mark.line][mark.column : mark.column + 1] if mark and mark.line < len(lines) else ""
