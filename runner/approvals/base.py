"""What an approval is, to those who need one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

Scope = Literal["once", "job"]

TIMEOUT, NOBODY = "timeout", "nobody"
"""Who answered when no person did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A question to a person."""

    id: str
    """Unique in its job, and over all jobs where the job has a name: `fix-20260504-093000-a1b2/1`."""
    call: str
    """What would be done, as rules would name it: `Bash(pip install x)`."""
    reason: str
    """Why it is asked: the rule, or the mode."""
    rule: str | None = None
    """The rule because of which it is asked, as written."""
    where: str | None = None
    """file:line of that rule."""
    suggestion: str | None
    """A rule that would allow it from now on."""
    input: str = ""
    """All that the call was given, as JSON: a person may want to see what would be written."""
    seconds: float
    """Until it counts as denied."""

    @property
    def input_sha256(self) -> str:
        return hashlib.sha256(self.input.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    allowed: bool
    scope: Scope
    """once: for this call; job: also for the same call again, and for all that the suggested rule allows."""
    by: str
    """`terminal`, the name of a user, TIMEOUT or NOBODY."""
    reason: str = ""


class Approver(Protocol):
    def ask(self, question: Ask) -> Answer:
        """A person's answer, or a denial when the time is over; never allows by itself. Cancelled flies through."""
        ...


class Nobody:
    """Denies at once: for jobs that no person watches, and that have no queue."""

    def ask(self, question: Ask) -> Answer:
        return Answer(allowed=False, scope="once", by=NOBODY, reason="there is nobody to ask")


def in_vain(question: Ask) -> Answer:
    """The answer to a question whose time is over."""
    return Answer(
        allowed=False, scope="once", by=TIMEOUT, reason=f"nobody answered within {round(question.seconds, 1):g} s"
    )
