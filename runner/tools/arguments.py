"""Arguments of tool calls: types that forgive what models habitually get wrong, validation, and the schema they see."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from runner.messages import ToolSpec
from runner.tools.base import Tool

MAX_WORD_CHARS = 80_000
"""A request to the sandbox has room for that, and the kernel for little more in one argument (execve(2): 128 KiB)."""


# Models now and then quote a number or a flag; anything else of the wrong type is told to them.


def _number(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,18}\s*", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


def _content(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half of a surrogate pair") from None
    return value


def _word(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    if len(value) > MAX_WORD_CHARS:
        raise ValueError(f"must not be longer than {MAX_WORD_CHARS} characters")
    return value


Content = Annotated[str, AfterValidator(_content)]
"""Text that becomes a part of a file."""
Word = Annotated[Content, AfterValidator(_word)]
"""Text that becomes an argument or a path."""
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, Field(ge=1), BeforeValidator(_number)]
Index = Annotated[int, Field(ge=0), BeforeValidator(_number)]


class InvalidInput(ValueError):
    """The arguments of a call do not fit the tool; the text tells the model which, and what would."""


AnyTool = TypeVar("AnyTool", bound=Tool)


def parse(tool: type[AnyTool], input: Mapping[str, Any]) -> AnyTool:
    """The call with these arguments. A parameter given as null counts as not given. Raises InvalidInput."""
    try:
        return tool.model_validate({key: value for key, value in input.items() if value is not None})
    except ValidationError as error:
        complaints = "\n".join(f"- {_complaint(tool, detail)}" for detail in error.errors(include_url=False))
        raise InvalidInput(f"{tool.__name__} was not run, its input is not valid:\n{complaints}") from error


def spec(tool: type[Tool]) -> ToolSpec:
    """The tool as the model sees it."""
    schema = {key: value for key, value in _plain(tool.model_json_schema()).items() if key != "description"}
    return ToolSpec(name=tool.__name__, description=inspect.cleandoc(tool.__doc__ or ""), input_schema=schema)


def parameters(tool: type[Tool]) -> tuple[str, ...]:
    """Names of the parameters, as the model writes them."""
    return tuple(info.alias or name for name, info in tool.model_fields.items())


def _complaint(tool: type[Tool], detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "missing":
            return f"{key!r} is required"
        case "extra_forbidden":
            return f"{key!r} is not a parameter{_hint(key, parameters(tool))}"
        case _:
            return f"{key!r}: {detail['msg']} (got {repr(detail['input'])[:80]})"


def _hint(key: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; the parameters are {', '.join(names)}"


def _plain(schema: Any) -> Any:
    """A schema without what says nothing to a model: titles, and the null that stands for "not given"."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if [*schema.get("anyOf", ())][1:] == [{"type": "null"}]:
        return _plain(schema["anyOf"][0] | {key: schema[key] for key in ("description",) if key in schema})
    return {key: _plain(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
