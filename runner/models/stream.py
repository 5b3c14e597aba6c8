"""From the bytes of a Messages API stream to a Reply; pure, and it believes nothing it reads.

The stream is server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) whose data are the
JSON events of https://docs.anthropic.com/en/docs/build-with-claude/streaming. A Reply comes out only when every block
was closed, a stop reason was given and `message_stop` was seen; anything else is a StreamBroken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from runner.messages import Block, Opaque, Reply, StopReason, Text, ToolUse, Usage
from runner.models.arguments import parse_arguments

MAX_EVENT_BYTES = 8 << 20
"""One event holds a few tokens, or at most one whole block."""

_TOOL_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_STOP_REASONS: dict[str, StopReason] = {reason: reason for reason in get_args(StopReason)}


class StreamBroken(Exception):
    """The stream is not a whole, well-formed reply."""


class ErrorEvent(Exception):
    """The provider broke off in the middle of a stream and said why. `kind` is its word for it: `overloaded_error`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


# --- the events, as far as we read them; what else they carry is ignored, as the API's versioning rules ask for


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Counts(_Strict):
    input_tokens: int | None = Field(default=None, ge=0)
    output_tokens: int | None = Field(default=None, ge=0)
    cache_read_input_tokens: int | None = Field(default=None, ge=0)
    cache_creation_input_tokens: int | None = Field(default=None, ge=0)


class _Start(_Strict):
    id: str
    model: str
    usage: _Counts


class _MessageStart(_Strict):
    type: Literal["message_start"]
    message: _Start


class _BlockStart(_Strict):
    type: Literal["content_block_start"]
    index: int
    content_block: dict[str, Any]


class _BlockDelta(_Strict):
    type: Literal["content_block_delta"]
    index: int
    delta: dict[str, Any]


class _BlockStop(_Strict):
    type: Literal["content_block_stop"]
    index: int


class _Stop(_Strict):
    stop_reason: str | None = None


class _MessageDelta(_Strict):
    type: Literal["message_delta"]
    delta: _Stop
    usage: _Counts = _Counts()


class _MessageStop(_Strict):
    type: Literal["message_stop"]


class _ErrorBody(_Strict):
    type: str = "error"
    message: str = ""


class _Error(_Strict):
    type: Literal["error"]
    error: _ErrorBody


class _Other(_Strict):
    """ping, and kinds newer than this code."""

    type: str


def _tag(event: Any) -> str:
    kind = event.get("type") if isinstance(event, dict) else None
    return kind if isinstance(kind, str) and kind in _TAGS else "other"


StreamEvent = Annotated[
    Annotated[_MessageStart, Tag("message_start")]
    | Annotated[_BlockStart, Tag("content_block_start")]
    | Annotated[_BlockDelta, Tag("content_block_delta")]
    | Annotated[_BlockStop, Tag("content_block_stop")]
    | Annotated[_MessageDelta, Tag("message_delta")]
    | Annotated[_MessageStop, Tag("message_stop")]
    | Annotated[_Error, Tag("error")]
    | Annotated[_Other, Tag("other")],
    Discriminator(_tag),
]
_TAGS = frozenset(
    ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta")
    + ("message_stop", "error")
)
_EVENT: TypeAdapter[StreamEvent] = TypeAdapter(StreamEvent)


def stream_events(chunks: Iterable[bytes]) -> Iterator[StreamEvent]:
    """The events of a stream as they come. Raises StreamBroken for what is no event, and what `chunks` raises."""
    for data in _event_data(chunks):
        try:
            yield _EVENT.validate_json(data)
        except ValidationError as error:
            raise StreamBroken(f"an event is malformed: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    # Without the input: it may be megabytes.
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return ": ".join([*(str(part) for part in problem["loc"]), problem["msg"]])


def _event_data(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event that a blank line ended."""
    data: list[bytes] = []
    size = 0
    for line in _lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
            size += len(line)
            if size > MAX_EVENT_BYTES:
                raise StreamBroken(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        elif not line and data:
            yield b"\n".join(data)
            data, size = [], 0


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Finished lines without their end; what the stream leaves unfinished is dropped, as the format says."""
    buffer = bytearray()
    for chunk in chunks:
        searched = len(buffer)
        buffer += chunk
        if buffer.find(b"\n", searched) >= 0:
            *lines, buffer = buffer.split(b"\n")
            yield from (bytes(line.removesuffix(b"\r")) for line in lines)
        if len(buffer) > MAX_EVENT_BYTES:
            raise StreamBroken(f"a line is longer than {MAX_EVENT_BYTES} bytes")


# --- putting the reply together


class Assembly:
    """A reply under construction: `add` events until `finished`, then take `reply()`; `usage` is known at any time."""

    def __init__(self, taken_ids: Collection[str] = ()) -> None:
        """`taken_ids`: ids of earlier tool calls in the conversation, which must not come again."""
        self.finished = False
        self._start: _Start | None = None
        self._counts = _Counts()
        self._stop_reason: str | None = None
        self._open: _OpenBlock | None = None
        self._blocks: list[Block] = []
        self._ids = set(taken_ids)

    def add(self, event: StreamEvent) -> str:
        """Take the next event; returns the text that it adds to the reply. Raises StreamBroken or ErrorEvent."""
        if self.finished:
            raise StreamBroken("an event came after message_stop")
        match event:
            case _MessageStart(message=message):
                self._begin(message)
            case _BlockStart(index=index, content_block=block):
                return self._open_block(index, block)
            case _BlockDelta(index=index, delta=delta):
                return self._opened(index).add(delta)
            case _BlockStop(index=index):
                self._close_block(index)
            case _MessageDelta(delta=delta, usage=usage):
                self._end(delta, usage)
            case _MessageStop():
                self._finish()
            case _Error(error=error):
                raise ErrorEvent(error.type, error.message)
        return ""

    @property
    def started(self) -> bool:
        """Whether the provider has begun to answer, and so to bill."""
        return self._start is not None

    @property
    def usage(self) -> Usage:
        """Tokens so far, by the provider's own count."""
        return Usage(
            input_tokens=self._counts.input_tokens or 0,
            output_tokens=self._counts.output_tokens or 0,
            cache_read_tokens=self._counts.cache_read_input_tokens or 0,
            cache_write_tokens=self._counts.cache_creation_input_tokens or 0,
        )

    def worst_usage(self, worst: Usage) -> Usage:
        """What may be billed in the end, of a request that `worst` is the most for: it tells more than that once the
        provider has said what it counts."""
        if self._counts.input_tokens is None:
            return worst
        output = max(worst.output_tokens, self.usage.output_tokens)
        return self.usage.model_copy(update={"output_tokens": output})

    def reply(self) -> Reply:
        """The finished reply. Raises StreamBroken when it is not finished."""
        if not self.finished or self._start is None:
            raise StreamBroken("the stream ended before message_stop")
        return Reply(
            content=tuple(self._blocks),
            stop_reason=_STOP_REASONS.get(self._stop_reason or "", "other"),
            usage=self.usage,
            model=self._start.model,
            id=self._start.id,
        )

    def _begin(self, message: _Start) -> None:
        if self._start is not None:
            raise StreamBroken("message_start came twice")
        self._start = message
        self._count(message.usage)

    def _open_block(self, index: int, block: dict[str, Any]) -> str:
        if self._start is None or self._open is not None or self._stop_reason is not None:
            raise StreamBroken(f"block {index} starts out of place")
        if index != len(self._blocks):
            raise StreamBroken(f"block {index} came where block {len(self._blocks)} was due")
        self._open = _OpenBlock(block)
        return self._open.first_text

    def _opened(self, index: int) -> _OpenBlock:
        if self._open is None or index != len(self._blocks):
            raise StreamBroken(f"block {index} is not open")
        return self._open

    def _close_block(self, index: int) -> None:
        block = self._opened(index).block()
        if isinstance(block, ToolUse):
            if block.id in self._ids:
                raise StreamBroken(f"tool id {block.id!r} came twice")
            self._ids.add(block.id)
        self._blocks.append(block)
        self._open = None

    def _end(self, delta: _Stop, usage: _Counts) -> None:
        if self._start is None or self._open is not None:
            raise StreamBroken("message_delta came out of place")
        self._stop_reason = delta.stop_reason or self._stop_reason
        self._count(usage)

    def _finish(self) -> None:
        if self._start is None or self._open is not None:
            raise StreamBroken("message_stop came out of place")
        if self._stop_reason is None:
            raise StreamBroken("message_stop came without a stop reason")
        if self._counts.input_tokens is None or self._counts.output_tokens is None:
            raise StreamBroken("the reply says no usage, so its cost cannot be known")
        self.finished = True

    def _count(self, counts: _Counts) -> None:
        # message_delta repeats or raises what message_start said, and may leave fields out: the larger one holds.
        self._counts = _Counts.model_construct(
            **{
                name: max(
                    (n for n in (getattr(self._counts, name), getattr(counts, name)) if n is not None), default=None
                )
                for name in _Counts.model_fields
            }
        )


class _OpenBlock:
    """One block between its start and its stop."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._start = start
        self._kind = start.get("type")
        self._parts: list[str] = []
        """Text, or the JSON of tool arguments."""
        self.first_text = self._string(start, "text") if self._kind == "text" else ""
        if not isinstance(self._kind, str):
            raise StreamBroken("a block has no type")

    def add(self, delta: dict[str, Any]) -> str:
        """Returns the text that the delta adds to the reply."""
        match self._kind, delta.get("type"):
            case "text", "text_delta":
                self._parts.append(self._string(delta, "text"))
                return self._parts[-1]
            case "text", "citations_delta":
                return ""
            case "tool_use", "input_json_delta":
                self._parts.append(self._string(delta, "partial_json"))
                return ""
            case "text" | "tool_use", kind:
                raise StreamBroken(f"a {self._kind} block got a {kind!r}")
            case _:
                self._grow(delta)
                return ""

    def block(self) -> Block:
        match self._kind:
            case "text":
                return Text(text=self.first_text + "".join(self._parts))
            case "tool_use":
                return self._tool_use()
            case _:
                return self._opaque()

    def _grow(self, delta: dict[str, Any]) -> None:
        """Thinking, and kinds newer than this code: strings go on, JSON is gathered, anything else is set."""
        for name, value in delta.items():
            if name == "type":
                continue
            if name == "partial_json":
                self._parts.append(self._string(delta, name))
            elif isinstance(value, str) and isinstance(self._start.get(name), str):
                self._start[name] += value
            else:
                self._start[name] = value

    def _opaque(self) -> Opaque:
        if self._parts:
            try:
                self._start["input"] = parse_arguments("".join(self._parts))
            except ValueError as error:
                raise StreamBroken(f"a {self._kind} block holds broken JSON: {error}") from None
        try:
            return Opaque(block=parse_arguments(json.dumps(self._start)))
        except ValueError as error:
            raise StreamBroken(f"a {self._kind} block cannot be handed back: {error}") from None

    def _tool_use(self) -> ToolUse:
        id, name = self._string(self._start, "id"), self._string(self._start, "name")
        if not _TOOL_ID.fullmatch(id):
            raise StreamBroken(f"tool id {id[:80]!r} is not of letters, digits, '_' and '-'")
        if not name:
            raise StreamBroken(f"tool call {id!r} names no tool")
        # A call without arguments comes with no JSON at all, or with empty pieces of it.
        text = "".join(self._parts) or json.dumps(self._start.get("input", {}))
        try:
            return ToolUse(id=id, name=name, input=parse_arguments(text))
        except ValueError as error:
            return ToolUse(id=id, name=name, input={}, invalid=str(error))

    @staticmethod
    def _string(where: dict[str, Any], key: str) -> str:
        value = where.get(key, "")
        if not isinstance(value, str):
            raise StreamBroken(f"{key!r} is not a string")
        return value
