"""What the Messages API refuses: by these rules the scripted server judges requests, so that our loop is held to them.

From https://docs.anthropic.com/en/api/messages and the errors that the API answers. Stricter than it in one point: it
joins messages of the same role, we want them to alternate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, ValidationError

MAX_CACHE_POINTS = 4
MAX_REQUEST_BYTES = 32 << 20


class Refused(Exception):
    """The request is one that the API would answer with status 400; `str` is why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _CachePoint(_Strict):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class _Block(_Strict):
    cache_control: _CachePoint | None = None


class _Text(_Block):
    type: Literal["text"]
    text: str


class _ToolUse(_Block):
    type: Literal["tool_use"]
    id: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    input: dict[str, Any]


class _ToolResult(_Block):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[_Text] = ""
    is_error: bool = False


class _Thinking(_Strict):
    type: Literal["thinking"]
    thinking: str
    signature: str


class _Unknown(BaseModel):
    type: str


_KINDS = frozenset(("text", "tool_use", "tool_result", "thinking"))


def _kind(block: Any) -> str:
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return kind if isinstance(kind, str) and kind in _KINDS else "unknown"


_AnyBlock = Annotated[
    Annotated[_Text, Tag("text")]
    | Annotated[_ToolUse, Tag("tool_use")]
    | Annotated[_ToolResult, Tag("tool_result")]
    | Annotated[_Thinking, Tag("thinking")]
    | Annotated[_Unknown, Tag("unknown")],
    Discriminator(_kind),
]


class ApiMessage(_Strict):
    role: Literal["user", "assistant"]
    content: str | list[_AnyBlock]

    @property
    def blocks(self) -> list[Any]:
        return [_Text(type="text", text=self.content)] if isinstance(self.content, str) else self.content


class _Schema(BaseModel):
    type: Literal["object"]
    properties: dict[str, dict[str, Any] | bool] = {}
    required: list[str] = []


class _Tool(_Block):
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    description: str = ""
    input_schema: _Schema


class ApiRequest(_Strict):
    """A request that has the right shape."""

    model: Annotated[str, StringConstraints(min_length=1)]
    max_tokens: int = Field(ge=1)
    messages: list[ApiMessage] = Field(min_length=1)
    stream: Literal[True]
    system: str | list[_Text] = ""
    tools: list[_Tool] = []


def judge(body: bytes, *, thoughts: Collection[tuple[str, str]] | None = ()) -> ApiRequest:
    """The request of a /v1/messages body. Raises Refused.

    `thoughts` are the (thinking, signature) pairs handed out; None: not known, and any is taken.
    """
    try:
        request = ApiRequest.model_validate_json(body)
    except ValidationError as error:
        # Of a choice of shapes the complaint that goes deepest is about the one that was meant.
        problem = max(error.errors(include_url=False, include_input=False), key=lambda problem: len(problem["loc"]))
        raise Refused(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}") from None
    for reason in _refusals(request, thoughts):
        raise Refused(reason)
    return request


def thoughts_of(request: ApiRequest) -> Iterator[tuple[str, str]]:
    """The (thinking, signature) pairs that a request hands back."""
    for message in request.messages:
        for block in message.blocks:
            if isinstance(block, _Thinking):
                yield block.thinking, block.signature


def _refusals(request: ApiRequest, thoughts: Collection[tuple[str, str]] | None) -> Iterator[str]:
    yield from _about_tools(request.tools)
    yield from _about_roles(request.messages)
    yield from _about_text(request)
    yield from _about_calls(request.messages)
    if thoughts is not None:
        yield from _about_thinking(request.messages, thoughts)
    yield from _about_cache_points(request)


def _about_tools(tools: list[_Tool]) -> Iterator[str]:
    names = [tool.name for tool in tools]
    for tool in tools:
        if names.count(tool.name) > 1:
            yield f"tools: Tool names must be unique ({tool.name})"
        for name in set(tool.input_schema.required) - set(tool.input_schema.properties):
            yield f"tools.{tool.name}.input_schema: required property {name!r} is not among the properties"


def _about_roles(messages: list[ApiMessage]) -> Iterator[str]:
    for number, message in enumerate(messages):
        due = "user" if number % 2 == 0 else "assistant"
        if message.role != due:
            yield f"messages.{number}: role is {message.role}, {due} was due (roles must alternate, user first)"
    if messages[-1].role != "user":
        yield "messages: the conversation must end with a user message"


def _about_text(request: ApiRequest) -> Iterator[str]:
    for number, message in enumerate(request.messages):
        if not message.blocks:
            yield f"messages.{number}: all messages must have non-empty content"
        for block in message.blocks:
            if isinstance(block, _Text) and not block.text.strip():
                yield f"messages.{number}: text content blocks must contain non-whitespace text"
    if isinstance(request.system, list) and any(not block.text for block in request.system):
        yield "system: text content blocks must be non-empty"


def _about_calls(messages: list[ApiMessage]) -> Iterator[str]:
    """Calls are the assistant's, results the user's; each call is answered at once, once, and before anything else."""
    seen: set[str] = set()
    due: set[str] = set()
    for number, message in enumerate(messages):
        calls = [block.id for block in message.blocks if isinstance(block, _ToolUse)]
        results = [block.tool_use_id for block in message.blocks if isinstance(block, _ToolResult)]
        if (calls and message.role == "user") or (results and message.role == "assistant"):
            yield f"messages.{number}: tool_use belongs to the assistant, tool_result to the user"
        if missing := due - set(results):
            yield f"messages.{number}: `tool_use` ids without `tool_result` blocks immediately after: {min(missing)}"
        if stray := set(results) - due:
            yield f"messages.{number}: unexpected `tool_use_id` in `tool_result`: {min(stray)}"
        if len(results) > len(set(results)):
            yield f"messages.{number}: each tool_use must have a single result"
        if any(not isinstance(block, _ToolResult) for block in message.blocks[: len(results)]):
            yield f"messages.{number}: tool_result blocks must come first"
        if len(calls) > len(set(calls)) or seen & set(calls):
            yield f"messages.{number}: `tool_use` ids must be unique"
        seen.update(calls)
        due = set(calls)


def _about_thinking(messages: list[ApiMessage], thoughts: Collection[tuple[str, str]]) -> Iterator[str]:
    for number, message in enumerate(messages):
        for block in message.blocks:
            if isinstance(block, _Thinking) and (block.thinking, block.signature) not in thoughts:
                yield f"messages.{number}: Invalid `signature` in `thinking` block"


def _about_cache_points(request: ApiRequest) -> Iterator[str]:
    points = sum(1 for block in cacheable(request) if getattr(block, "cache_control", None) is not None)
    if points > MAX_CACHE_POINTS:
        yield f"A maximum of {MAX_CACHE_POINTS} blocks with cache_control may be provided. Found {points}."


def cacheable(request: ApiRequest) -> Iterator[BaseModel]:
    """Everything that a prompt cache may hold, in the order in which it does."""
    yield from request.tools
    yield from [_Text(type="text", text=request.system)] if isinstance(request.system, str) else request.system
    for message in request.messages:
        yield from message.blocks
