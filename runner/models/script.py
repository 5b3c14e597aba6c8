"""Scripts of replies: the YAML behind `scripted:FILE`; docs/scripted.md explains it to those who write one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from runner.config import FileModel, load
from runner.errors import ConfigError
from runner.messages import Usage
from runner.task import NonEmpty

SUFFIXES = (".yaml", ".yml", ".json")
Seconds = Annotated[float, Field(ge=0, le=3600, strict=False)]


class ScriptedCall(FileModel):
    """One tool call."""

    name: NonEmpty
    """The tool: `Bash`."""
    input: dict[str, Any] = Field(default_factory=dict)
    """Its arguments."""
    json_text: str | None = None
    """Sent instead of `input`, as it stands: for arguments that are not valid JSON."""
    id: str | None = None
    """Left out: a fresh one."""


class ScriptedUsage(FileModel):
    """Tokens, as Anthropic counts them; left out, they are estimated from sizes (four characters are a token)."""

    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    cache_read_tokens: int = Field(default=0, ge=0)
    cache_write_tokens: int = Field(default=0, ge=0)

    def usage(self) -> Usage:
        return Usage(**self.model_dump())


class Trouble(FileModel):
    """What goes wrong with an answer."""

    delay_seconds: Seconds = 0
    """Wait before the answer begins."""
    status: int | None = Field(default=None, ge=200, le=599)
    """Answer with this HTTP status and an error instead of a reply."""
    error: NonEmpty | None = None
    """The error's type; left out, the one that belongs to the status (`rate_limit_error` …)."""
    message: str = "scripted trouble"
    """The error's message."""
    headers: dict[str, str] = Field(default_factory=dict)
    """More headers for the answer: `{retry-after: "2"}`."""
    body: str | None = None
    """The answer's whole body, instead of an error or events."""
    after: int | None = Field(default=None, ge=0)
    """Break the stream off after so many events."""
    then: Literal["cut", "reset", "end", "hang", "pings", "error", "garbage"] = "cut"
    """What happens `after` them: the connection closes (`cut`) or is reset (`reset`), the body ends as if all were well
    (`end`), nothing comes any more (`hang`), only pings come (`pings`), an error event (`error`), or bytes that are no
    event (`garbage`)."""

    @property
    def replies(self) -> bool:
        """Whether there is a whole reply all the same."""
        return self.status is None and self.body is None and self.after is None


class Turn(FileModel):
    """One reply, or one failure to reply."""

    when: NonEmpty | None = None
    """A regular expression (Python's, searched) on the last message: what the user said or the tools answered. A turn
    that does not match is skipped for good."""
    thinking: NonEmpty | None = None
    """A thinking block, first in the reply."""
    text: str = ""
    """What the model says."""
    tools: tuple[ScriptedCall, ...] = Field(default=(), strict=False)
    """Its tool calls, after the text."""
    stop_reason: NonEmpty | None = None
    """Left out: `tool_use` when there are calls, else `end_turn`."""
    usage: ScriptedUsage | None = None
    repeat: int = Field(default=1, ge=1, le=100_000)
    """How often the turn is played."""
    fault: Trouble | None = None

    @field_validator("when")
    @classmethod
    def _is_pattern(cls, when: str | None) -> str | None:
        try:
            re.compile(when or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return when

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.text or self.tools or self.thinking or self.fault or self.stop_reason):
            raise ValueError("says nothing; give it text, tools or a fault")
        return self


class Script(FileModel):
    """A scripted model."""

    version: Literal[1]
    """Version of this format."""
    model: NonEmpty = "scripted"
    """The model id that answers; with that of a real model (`claude-sonnet-4-6`) the replies have its price."""
    turns: tuple[Turn, ...] = Field(min_length=1, strict=False)
    """Played from top to bottom."""


def load_script(path: Path) -> Script:
    """Raises ConfigError: `file:line:column: key: what; hint`."""
    if path.suffix not in SUFFIXES:
        # A task may come from a stranger: no error message shall quote a file that was never meant to be a script.
        raise ConfigError(f"{path}: a script ends in {' or '.join(SUFFIXES)}")
    return load(path, Script).value
