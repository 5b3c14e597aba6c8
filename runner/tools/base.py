"""What a tool is: its arguments, the subjects its call is judged by, and what it does in a sandbox.

A tool is a pydantic class: the class name is the tool's name, the docstring what the model reads, the fields its
parameters, and an instance one valid call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from runner.egress.fetch import Fetch
from runner.policy import Call
from runner.sandbox.base import REPO, Sandbox


@dataclass(kw_only=True, slots=True)
class Session:
    """What the tools of one job share: the sandbox, and the little state that outlives a call."""

    sandbox: Sandbox
    permits: Callable[[Call], bool] = lambda call: True
    """The policy's word on what a call would come upon on its way, such as the files that a search finds."""
    fetch: Fetch | None = None
    """Fetches pages of the web; None: there are none in this job."""
    seconds_left: float = float("inf")
    """Time the job still has; set by the loop before each call, caps every timeout."""
    cwd: str = str(REPO)
    """Working directory of the shell, kept from call to call."""
    calls: int = 0
    """Tool calls so far; numbers the logs."""
    seen: dict[str, str] = field(default_factory=dict)
    """Resolved path of each file the model has read or written -> SHA-256 of what it knows the file to be."""
    tasks: list[str] = field(default_factory=list)
    """Ids of the background tasks, in order of their start."""
    confinement: str = ""
    """What the model is told of the folders that commands are held to when one is refused; empty: they are not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a tool call gave: `content` goes to the model, `details` to the transcript."""

    content: str
    is_error: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


def failure(content: str, **details: Any) -> Answer:
    """An answer about something that the model can mend."""
    return Answer(content=content, is_error=True, details=details)


def os_failure(tool: str, error: OSError) -> Answer:
    """The answer to a call that ended in an OSError: the path is wrong, or not for the job's user."""
    where = f": {error.filename}" if error.filename else ""
    return failure(f"{tool} failed: {error.strerror or error}{where}.")


def fitting(lines: list[str], max_chars: int) -> list[str]:
    """As many of the lines as an answer of that size holds, at least one."""
    size = 0
    for count, line in enumerate(lines):
        size += len(line) + 1
        if size > max_chars and count:
            return lines[:count]
    return lines


class Tool(BaseModel, ABC):
    """One valid call of a tool."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    @abstractmethod
    def calls(self, session: Session) -> tuple[Call, ...]:
        """What this call does, in the policy's words; all of it must be allowed.

        A path tool names the path as given and, when links lead elsewhere, the target too. Raises OSError when a path
        cannot be followed.
        """

    @abstractmethod
    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        """Do what was judged: `calls` is what `calls()` gave; a path tool works on the last of them and nothing else.

        Raises SandboxError, and OSError for what a file call of this machine would; every other thing that the model
        can mend is an Answer with is_error.
        """
