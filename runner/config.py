"""Task and policy files into frozen values; every mistake is reported at once: `file:line:column: key: what; hint`."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from runner.document.composer import compose
from runner.document.source import read
from runner.document.tree import Document, Mark, Stop, report
from runner.document.words import KeyPath, key_text, near, shown
from runner.errors import ConfigError


class FileModel(BaseModel):
    """Base of everything that is written in YAML: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    def located(self, where: Callable[[KeyPath], str]) -> Self:
        """The same value, its parts knowing where in the file they stand; `load` calls it once. Most need not know."""
        return self


@dataclass(frozen=True, slots=True)
class Form:
    """For Annotated: text that has this form; `what` says it in words, to follow "must be"."""

    pattern: str
    what: str

    def check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"must be {self.what} (got {shown(text)})")
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}


M = TypeVar("M", bound=FileModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded(Generic[M]):
    """A valid file."""

    value: M
    path: Path
    sha256: str
    """Of the file's bytes; overrides are not in it."""
    bases: tuple[Path, ...] = ()
    """Other files that it is made of, if any."""
    where: Callable[[KeyPath], str] = field(repr=False, compare=False)
    """Where a key's value stands: `file:line:column`, or the flag that gave it."""


def load(path: Path, model: type[M], *, overrides: Mapping[str, str] | None = None) -> Loaded[M]:
    """The file as a `model`, with single keys replaced by `overrides` (`limits.turns` -> text as on a command line).

    Raises ConfigError with one line for each mistake, at most 20.
    """
    return validate(read(path), model, path=path, overrides=overrides)


def validate(
    document: Document, model: type[M], *, path: Path, overrides: Mapping[str, str] | None = None
) -> Loaded[M]:
    """As `load`, for a document that was read already."""
    for key, text in (overrides or {}).items():
        _override(document, model, tuple(key.split(".")), text)
    value = _parse(document, model)
    if value is None or document.problems:
        raise ConfigError(report(document.problems))
    located = value.located(document.where)
    return Loaded(value=located, path=path, sha256=document.sha256, where=document.where)


# --- Overrides ---


def _override(document: Document, model: type[FileModel], path: KeyPath, text: str) -> None:
    """Put one value from the command line into the tree; mistakes in it are reported by its flag."""
    flag = Mark(f"--{'.'.join(map(str, path))}", 0, 0)
    into = document.tree if isinstance(document.tree, dict) else {}
    for depth, key in enumerate(path[:-1], start=1):
        into = into.setdefault(key, {})
        document.keys.setdefault(path[:depth], flag)
        document.values.setdefault(path[:depth], flag)
        if not isinstance(into, dict):
            document.complain(path, f"{key_text(path[:depth])} is not a mapping", flag)
            return
    for place in [place for place in document.values if place[: len(path)] == path]:
        del document.values[place]
    document.refused = {place for place in document.refused if place[: len(path)] != path}
    document.problems = [
        problem for problem in document.problems if problem.key[: len(path)] != path or not problem.line
    ]
    into[path[-1]] = _override_value(document, model, path, text, flag)
    document.keys[path] = document.values[path] = flag


def _override_value(document: Document, model: type[FileModel], path: KeyPath, text: str, flag: Mark) -> Any:
    if _annotation_at(model, path) is str:
        return text
    given = Document(source=flag.source)
    try:
        compose(text, given)
    except Stop as stop:
        given.complain((), stop.text, flag)
    for problem in given.problems:
        document.complain(path, problem.text, flag)
        document.refused.add(path)
    return given.tree


# --- Values ---


def _parse(document: Document, model: type[M]) -> M | None:
    """The tree as a `model`, or None and problems."""
    if not isinstance(document.tree, dict):
        what = "is empty" if document.tree is None else f"must be a mapping (got {shown(document.tree)})"
        required = [name for name, info in model.model_fields.items() if info.is_required()]
        document.complain((), f"{what}; it must have the keys {', '.join(required)}")
        return None
    try:
        return model.model_validate(document.tree)
    except ValidationError as error:
        for path, details in _by_key(error, document).items():
            if not any(path[:length] in document.refused for length in range(1, len(path) + 1)):
                _complain_about(document, model, path, details)
        return None


def _by_key(error: ValidationError, document: Document) -> dict[KeyPath, list[ErrorDetails]]:
    """pydantic's complaints by key. Of a union it makes several, with the names of types within or behind the path."""
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        path: KeyPath = ()
        for part in detail["loc"]:
            if (*path, part) in document.values:
                path = (*path, part)
        if detail["type"] == "missing":
            path = (*path, detail["loc"][-1])
        found.setdefault(path, []).append(detail)
    return found


def _complain_about(document: Document, model: type[FileModel], path: KeyPath, details: list[ErrorDetails]) -> None:
    detail = details[0]
    match detail["type"]:
        case "missing":
            document.complain(path, "is required", document.mark(path[:-1]))
        case "extra_forbidden":
            document.complain(path, f"unknown key{_key_hint(model, path)}", document.mark(path, of_key=True))
        case "value_error":
            document.complain(path, str(detail["ctx"]["error"]))
        case _:
            document.complain(path, _type_text(details))


def _type_text(details: list[ErrorDetails]) -> str:
    value = details[0]["input"]
    if details[0]["type"] == "literal_error" and (meant := near(str(value), _choices(details[0]))):
        return f"there is no {shown(value)}; did you mean {meant!r}?"
    expected = list(dict.fromkeys(_expectation(detail) for detail in details))
    hint = ""
    if details[0]["type"] == "string_type" and isinstance(value, int | float):
        hint = "; put it in quotes"
    if details[0]["type"] in ("tuple_type", "list_type") and isinstance(value, str):
        hint = f"; write [{shown(value)}]"
    if details[0]["type"] == "bool_type" and str(value).lower() in ("yes", "no", "on", "off", "y", "n"):
        hint = "; only true and false are booleans here"
    return f"must be {' or '.join(expected)} (got {shown(value)}){hint}"


def _choices(detail: ErrorDetails) -> list[str]:
    """The words that would have been right; pydantic gives them as one text: `'a', 'b' or 'c'`."""
    return re.findall(r"'([^']*)'", detail["ctx"]["expected"])


def _expectation(detail: ErrorDetails) -> str:
    """What would have been right, to follow "must be"."""
    context = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in detail.get("ctx", {}).items()
    }
    words = _EXPECTATIONS.get(detail["type"])
    return words.format(**context) if words else f"valid: {detail['msg'][:1].lower()}{detail['msg'][1:]}"


_EXPECTATIONS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "literal_error": "{expected}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "at least {min_length} character long",
    "string_too_long": "at most {max_length} characters long",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


def _key_hint(model: type[FileModel], path: KeyPath) -> str:
    parent = _annotation_at(model, path[:-1])
    known = list(parent.model_fields) if isinstance(parent, type) and issubclass(parent, BaseModel) else []
    meant = near(str(path[-1]), known)
    if meant:
        return f"; did you mean {meant!r}?"
    return f"; the keys here are {', '.join(known)}" if known else ""


def _annotation_at(model: Any, path: KeyPath) -> Any:
    """The type that a key has in a model; None when the model has no such key."""
    found: Any = model
    for part in path:
        found = _inner(found, part)
    return _bare(found)


def _inner(annotation: Any, part: str | int) -> Any:
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = annotation.model_fields.get(str(part))
        return info.annotation if info else None
    arguments = get_args(annotation)
    return {dict: arguments[-1:], tuple: arguments[:1], list: arguments[:1]}.get(get_origin(annotation), [None])[0]


def _bare(annotation: Any) -> Any:
    """Without Annotated and `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [item for item in get_args(annotation) if item is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else annotation
    return annotation
