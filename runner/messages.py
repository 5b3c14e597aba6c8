"""The values that pass between an agent and a model: blocks, messages, requests, replies, usage and prices.

Blocks follow the Anthropic Messages API (https://docs.anthropic.com/en/api/messages); the transcript keeps them so.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Value(BaseModel):
    """A frozen value that is written to the transcript as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(Value):
    type: Literal["text"] = "text"
    text: str


class Reminder(Text):
    """What we say of limits that are nearly reached: true of this moment of this attempt at a job, and no other."""


class ToolUse(Value):
    """A call the model asked for. `input` was parsed from finished JSON; `invalid` says why when it could not be."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]
    invalid: str | None = None


class ToolResult(Value):
    type: Literal["tool_result"] = "tool_result"
    tool_use_id: str
    content: str
    is_error: bool = False


class Opaque(Value):
    """A block we only hand back (thinking, and kinds newer than this code)."""

    type: Literal["opaque"] = "opaque"
    block: dict[str, Any]


Block = Annotated[Text | ToolUse | ToolResult | Opaque, Field(discriminator="type")]


class Message(Value):
    role: Literal["user", "assistant"]
    content: tuple[Block, ...]


class ToolSpec(Value):
    """A tool as the model sees it."""

    name: str
    description: str
    input_schema: dict[str, Any]


class Usage(Value):
    """Tokens of one reply. As Anthropic counts, `input_tokens` excludes what the prompt cache gave or took."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


StopReason = Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn", "other"]


class Reply(Value):
    """A finished reply: seen to its last event, never half of one."""

    content: tuple[Block, ...]
    stop_reason: StopReason
    usage: Usage
    model: str
    """The exact model id that answered."""
    id: str = ""
    wasted: Usage = Usage()
    """Usage of failed tries of this request that the provider is known to bill; zero when none is known."""
    played: bool = False
    """Taken from the recording of an earlier attempt at the job, which paid for it."""

    @property
    def tool_uses(self) -> tuple[ToolUse, ...]:
        return tuple(block for block in self.content if isinstance(block, ToolUse))

    @property
    def text(self) -> str:
        return "".join(block.text for block in self.content if isinstance(block, Text))


class Request(Value):
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    max_tokens: int
    input_tokens: int = 0
    """The most that the provider can count system, messages and tools as."""
    seconds: float
    """Deadline for this request, its retries and waits included."""


class Retried(Value):
    """One failed try, for the transcript."""

    attempt: int
    cause: str
    status: int | None
    wait_seconds: float
    usage: Usage = Usage()
    """Known to be billed."""
    worst_usage: Usage = Usage()
    """Billed at the very most."""


class Price(Value):
    """USD per million tokens of one exact model id.

    Some models charge all tokens of a request dearer once its input is long: such a price names those rates in `above`,
    and `cost_usd` is then right for the usage of one request only; sum costs, not usages.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal
    above: tuple[LongInputPrice, ...] = ()
    """Dearer rates for requests with long input, by rising `input_tokens`."""

    def at(self, input_tokens: int) -> Price:
        """The flat price of a request with so many input tokens, those from and to the prompt cache included."""
        rates = [step.price for step in self.above if input_tokens > step.input_tokens]
        return rates[-1] if rates else self.model_copy(update={"above": ()})

    def cost_usd(self, usage: Usage) -> Decimal:
        price = self.at(usage.total_tokens - usage.output_tokens) if self.above else self
        return (
            price.input * usage.input_tokens
            + price.output * usage.output_tokens
            + price.cache_read * usage.cache_read_tokens
            + price.cache_write * usage.cache_write_tokens
        ) / Decimal(1_000_000)


class LongInputPrice(Value):
    """What a request costs whose input is longer than `input_tokens`: that price for all of its tokens."""

    input_tokens: int
    price: Price
