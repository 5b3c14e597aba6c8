"""Templates of task files: Jinja2, cut down to what a text needs, bounded in time and size.

A template may use values (`{{ task.name }}`), `if`, `for` and a few filters. It cannot call, set, import or compute: a
task may come from a stranger. Values are data; what they hold is never read as a template.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel

from runner.document.words import shown
from runner.errors import ConfigError

MAX_CHARS = 1024 * 1024
"""Of what comes out."""
MAX_TAGS = 2_000
"""`{{`, `{%` and `{#` in one template."""
MAX_NODES = 10_000
"""Names, values and operators in one template."""
SECONDS = 2.0
"""For one rendering."""
SLUG_CHARS = 40


class TemplateMistake(ValueError):
    """What is wrong with a template."""


def check(template: str) -> str:
    """The template, if it is one. Raises TemplateMistake."""
    _compile(template)
    return template


@lru_cache(maxsize=32)
def names(template: str) -> frozenset[str]:
    """The values that a template asks for: `{{ task.name }}` asks for `task`. Raises TemplateMistake."""
    check(template)
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(template)))


def has_tags(text: str) -> bool:
    """Whether anything in a text would be read as a template."""
    return any(opening in text for opening in _OPENINGS)


def slug(value: Any, chars: int = SLUG_CHARS) -> str:
    """Any text as a part of a branch or file name: `a-z`, `0-9` and single dashes, at most `chars`; never nothing."""
    plain = unicodedata.normalize("NFKD", str(value)[: 10 * SLUG_CHARS]).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if len(words) > chars:
        # Not in the middle of a word, if the first one is not all there is.
        words = words[: chars + 1].rpartition("-")[0] or words[:chars]
    return words or "untitled"


def render(template: str, *, key: str = "template", **values: Any) -> str:
    """The text with these values put in; models count as mappings. Raises ConfigError naming the task's `key`."""
    plain = {name: _plain(value, name) for name, value in values.items()}
    try:
        return _joined(_compile(template).generate(plain | {_DEADLINE: time.monotonic() + SECONDS}))
    except UndefinedError as error:
        raise ConfigError(f"{key}: {error.message}; there are {', '.join(sorted(values))}") from None
    except (TemplateError, TemplateMistake, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{key}: {' '.join(str(error).split())}") from None


def _joined(chunks: Iterator[str]) -> str:
    parts: list[str] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_CHARS:
            raise TemplateMistake(f"gives more than {MAX_CHARS:,} characters")
        parts.append(chunk)
    return "".join(parts)


class _Named(dict[str, Any]):
    """A mapping that knows what the template calls it, for messages."""

    def __init__(self, items: Iterator[tuple[str, Any]], name: str) -> None:
        super().__init__(items)
        self.name = name


def _plain(value: Any, name: str) -> Any:
    """Mappings, lists and scalars only, so that there is no Python attribute to reach for."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return _Named(((str(key), _plain(item, f"{name}.{key}")) for key, item in value.items()), name)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{number}]") for number, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"BUG: {type(value).__name__} as a value of a template")


# --- The language ---

_ALLOWED = (
    nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Const, nodes.List, nodes.Tuple,
    nodes.If, nodes.For, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg,
    nodes.Filter, nodes.Test,
)  # fmt: skip
_WORDS = {"Call": "a call", "Assign": "'set'", "AssignBlock": "'set'", "Macro": "a macro", "Block": "a block"}
_MAX_LOOPS = 3
_DEADLINE = "_deadline"
_MOST_KEYS = 20
"""That a message lists."""
_OPENINGS = ("{{", "{%", "{#")


@lru_cache(maxsize=32)  # a batch renders the same few for each of its rows
def _compile(source: str) -> Template:
    """Raises TemplateMistake."""
    if sum(source.count(opening) for opening in _OPENINGS) > MAX_TAGS:
        raise TemplateMistake(f"has more than {MAX_TAGS:,} tags")
    try:
        tree = _ENVIRONMENT.parse(source)
        if sum(1 for _ in tree.find_all(nodes.Node)) > MAX_NODES:
            raise TemplateMistake(f"has more than {MAX_NODES:,} parts")
        _guard(tree)
        return _ENVIRONMENT.from_string(tree)
    except TemplateSyntaxError as error:
        raise TemplateMistake(f"line {error.lineno} of the template: {error.message}") from None
    except (RecursionError, SyntaxError, MemoryError):
        raise TemplateMistake("the template is nested too deep") from None


def _guard(node: nodes.Node, loops: int = 0) -> None:
    """Refuse what the language lacks, and put every loop under the deadline."""
    for child in node.iter_child_nodes():
        if not isinstance(child, _ALLOWED):
            name = type(child).__name__
            raise TemplateMistake(f"line {child.lineno} of the template: {_WORDS.get(name, name)} is not allowed here")
        if isinstance(child, nodes.Name) and child.name.startswith("_"):
            raise TemplateMistake(f"line {child.lineno} of the template: {child.name!r} is not a value")
        inside = loops + isinstance(child, nodes.For)
        if inside > _MAX_LOOPS:
            raise TemplateMistake(f"line {child.lineno} of the template: loops are nested more than {_MAX_LOOPS} deep")
        _guard(child, inside)
        if isinstance(child, nodes.For):
            deadline = nodes.Name(_DEADLINE, "load", lineno=child.lineno)
            child.iter = nodes.Filter(child.iter, "watched", [deadline], [], None, None, lineno=child.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    """Dots and brackets reach into mappings and lists, never into Python objects."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext) and attribute in ("index", "index0", "first", "last", "length"):
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, dict) and argument in obj:
            return obj[argument]
        if isinstance(obj, list) and isinstance(argument, int) and -len(obj) <= argument < len(obj):
            return obj[argument]
        if isinstance(obj, Undefined):
            return obj  # what is said is which name is missing, not what a missing thing lacks
        return self.undefined(_lacking(obj, argument), obj=obj, name=argument)


def _lacking(obj: Any, argument: Any) -> str:
    if not isinstance(obj, _Named):
        return f"{shown(obj)} has no attribute {shown(argument)}"
    keys = [*sorted(obj)[:_MOST_KEYS], *(["…"] if len(obj) > _MOST_KEYS else [])]
    return f"{obj.name} has no attribute {shown(argument)}; it has {', '.join(keys) or 'none'}"


def _watched(items: Any, deadline: float) -> list[Any]:
    return list(_until(items, deadline)) if isinstance(items, Undefined) else _Watched(items, deadline)


class _Watched(list[Any]):
    """A list that may be looped over until the deadline."""

    def __init__(self, items: Any, deadline: float) -> None:
        if not isinstance(items, list | dict | tuple):
            raise TemplateMistake("'for' needs a list or a mapping")
        super().__init__(items)
        self._deadline = deadline

    def __iter__(self) -> Iterator[Any]:
        return _until(super().__iter__(), self._deadline)


def _until(items: Any, deadline: float) -> Iterator[Any]:
    for item in items:
        if time.monotonic() > deadline:
            raise TemplateMistake(f"takes longer than {SECONDS:g} seconds")
        yield item


def _default(value: Any, other: Any = "") -> Any:
    return other if isinstance(value, Undefined) else value


def _as_text(method: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: method(str(value))


def _join(items: Any, between: str = "") -> str:
    return _joined(part for item in items for part in (between, str(item)))[len(between) :]


def _indent(text: Any, width: int = 4) -> str:
    return _replace(str(text), "\n", "\n" + " " * min(max(width, 0), 40))


def _quote(text: Any) -> str:
    """Each line behind `> `: no text can look as if it had ended."""
    return _replace(f"> {text}", "\n", "\n> ")


def _replace(value: Any, old: str, new: str) -> str:
    text = str(value)
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_CHARS:
        raise TemplateMistake(f"gives more than {MAX_CHARS:,} characters")
    return text.replace(old, new)


def _slug(value: Any, chars: int = SLUG_CHARS) -> str:
    if not 1 <= chars <= 2 * SLUG_CHARS:
        raise TemplateMistake(f"'slug' gives 1 to {2 * SLUG_CHARS} characters, not {chars}")
    return slug(value, chars)


def _first(items: Any) -> Any:
    return next(iter(items), "")


def _last(items: Any) -> Any:
    return items[-1] if items else ""


def _shown(value: Any) -> Any:
    """As in YAML: `true`, and nothing for nothing."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def _environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined,
        finalize=_shown,
        optimized=False,
        autoescape=False,  # the text is for a model or for git, not for a browser
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    environment.filters = {
        "default": _default, "first": _first, "indent": _indent, "join": _join, "last": _last, "length": len,
        "lower": _as_text(str.lower), "quote": _quote, "replace": _replace, "slug": _slug,
        "title": _as_text(str.title), "trim": _as_text(str.strip), "upper": _as_text(str.upper), "watched": _watched,
    }  # fmt: skip
    kept = ("defined", "undefined", "none", "string", "number", "true", "false")
    environment.tests = {name: environment.tests[name] for name in kept}
    return environment


_ENVIRONMENT = _environment()
