"""The messages of one job, kept in a form that the Messages API accepts.

Its rules (https://docs.anthropic.com/en/api/messages): the first message is the user's and the roles alternate; no
message and no text block is empty; every tool_use is answered in the very next message, results first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from runner.messages import Block, Message, Opaque, Reminder, Reply, Request, Text, ToolResult, ToolSpec, ToolUse, Usage

TOOL_PROMPT_TOKENS = 2_000
"""More than what the provider adds to a request with tools (its documentation names up to about 800 tokens)."""
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME_CHARS = 128


class Conversation:
    def __init__(self, system: str, tools: tuple[ToolSpec, ...]) -> None:
        self.system = system
        self.tools = tools
        self._messages: list[Message] = []
        self._measured: tuple[int, int] | None = None
        """Size in bytes of the last request that was answered, and the input tokens it was counted as."""

    def say(self, text: str) -> None:
        """Speak as the user."""
        self._add("user", (Text(text=text),))

    def remind(self, text: str) -> None:
        """Say as the user how near the limits are."""
        self._add("user", (Reminder(text=text),))

    def answer(self, results: Sequence[ToolResult]) -> None:
        """Answer every tool call of the reply just heard."""
        self._add("user", tuple(results))

    def hear(self, reply: Reply, request: Request) -> None:
        """Take the model's reply to that request; one without content leaves no message."""
        self._measured = (_size(request), _input_tokens(reply.usage))
        content = tuple(_sendable(block) for block in reply.content if not _blank(block))
        # Thinking alone is no message: the API refuses one that ends in it.
        if not all(isinstance(block, Opaque) for block in content):
            self._add("assistant", content)

    def request(self, *, max_tokens: int, seconds: float) -> Request:
        request = Request(
            system=self.system,
            messages=tuple(self._messages),
            tools=self.tools,
            max_tokens=max_tokens,
            seconds=seconds,
        )
        return request.model_copy(update={"input_tokens": self._most_tokens(request)})

    def _most_tokens(self, request: Request) -> int:
        """The most that a request can be counted as.

        A token is at least one byte long, so the size in bytes bounds it from above, some four times too high. As
        the conversation only grows, what the last request was counted as, plus the bytes since, bounds it too, closely.
        """
        size = _size(request)
        bounds = [size + TOOL_PROMPT_TOKENS]
        if self._measured is not None:
            measured_size, measured_tokens = self._measured
            bounds.append(measured_tokens + size - measured_size)
        return min(bounds)

    def _add(self, role: Literal["user", "assistant"], content: tuple[Block, ...]) -> None:
        last = self._messages[-1] if self._messages else None
        if last is not None and last.role == role:
            self._messages[-1] = last.model_copy(update={"content": last.content + content})
        else:
            self._messages.append(Message(role=role, content=content))


def _size(request: Request) -> int:
    """Bytes of what a request says; its numbers, which are no input, change it by nothing."""
    said = request.model_copy(update={"max_tokens": 1, "input_tokens": 0, "seconds": 0})
    return len(said.model_dump_json().encode())


def _input_tokens(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def _blank(block: Block) -> bool:
    return isinstance(block, Text) and not block.text.strip()


def _sendable(block: Block) -> Block:
    """The block as the API takes it back: a made-up tool name may hold characters that it refuses."""
    if not isinstance(block, ToolUse):
        return block
    name = _NOT_IN_A_NAME.sub("_", block.name)[:_MAX_NAME_CHARS] or "_"
    return block.model_copy(update={"name": name})
