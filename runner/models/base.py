"""What a model is to the rest of the runner: one finished reply for one request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from runner.errors import Cause, ModelError
from runner.ledger import CapName
from runner.messages import Message, Price, Reminder, Reply, Request, Retried, Usage

MIN_REPLY_TOKENS = 256
"""A reply with less room than this is not worth its input: the limit that leaves no more counts as reached."""


class Model(Protocol):
    """A language model behind some wire.

    `reply` returns a whole Reply or raises NoReply (after its retries), OverBudget (where money is counted), or nothing
    else. It never returns a reply whose stream was cut, and never runs past `request.seconds`. `on_text` gets the text
    as it comes, that of failed tries included; `on_retry` is called before each wait. What the two raise flies through.
    """

    @property
    def name(self) -> str:
        """As the task says it: `anthropic:claude-sonnet-4-6`."""
        ...

    @property
    def price(self) -> Price | None:
        """None: unknown; then cost is null everywhere and a cost limit is refused at the start."""
        ...

    def reply(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_retry: Callable[[Retried], None] | None = None,
    ) -> Reply: ...

    def close(self) -> None:
        """Let go of connections, servers and files; may be called twice.

        From another thread it ends a reply under way with NoReply, at once; then whoever asked for it closes, too.
        """
        ...


class Payable(Model, Protocol):
    """A Model that costs money: it asks before each try whether that is paid for; see `runner.models.metered`."""

    def reply(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_retry: Callable[[Retried], None] | None = None,
        pay: Pay | None = None,
    ) -> Reply:
        """`pay` is called before every try, the first and each retry, and its Payment settled after it, however it
        ends. None: any try may be made. What `pay` raises flies through."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Payment:
    """One try of a request is paid for, if it keeps to this."""

    max_tokens: int
    """Tokens of its reply: those of the request, or fewer."""
    worst_usage: Usage
    """The dearest that it can be billed as."""
    micro_usd: int | None = None
    """What `worst_usage` costs; None when unknown."""
    settle: Callable[[Usage, Usage], None] = lambda usage, worst_usage: None
    """The try has ended: it is billed as `usage` at least, as `worst_usage` at most."""


Pay = Callable[[], Payment]


class Differs(ModelError):
    """A job that is played again does not ask what it asked then, and was to stop at that."""

    cause: Cause = "difference"


class NoReply(ModelError):
    """The model gave no usable reply."""

    def __init__(self, message: str, *, last: Usage | None = None, last_worst: Usage | None = None) -> None:
        super().__init__(message)
        self.last = last or Usage()
        """Known to be billed for its last try, which `on_retry` did not tell."""
        self.last_worst = last_worst or Usage()
        """Billed for that one at the very most."""


class OverBudget(Exception):
    """What is left under a cap does not pay for another try; `limit` names the cap. No error: the job is at its end."""

    def __init__(self, limit: CapName) -> None:
        super().__init__(f"{limit} does not pay for another request")
        self.limit: CapName = limit


def request_hash(request: Request) -> str:
    """SHA-256, in hex, over system, messages and tools: equal exactly when the model is asked the same.

    How long the reply may be (`max_tokens`), how long it may take, what the input was estimated as and the reminders of
    limits that are near are no part of the question: they follow from the clock and from what was spent before, and
    change when a job is played again.
    """
    messages = tuple(_without_reminders(message) for message in request.messages)
    asked = request.model_copy(update={"messages": messages}).model_dump(include={"system", "messages", "tools"})
    # Sorted, because a recorded tool call may come back with its arguments in another order than the model wrote them;
    # ASCII, because file names may hold surrogates, which have no UTF-8.
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _without_reminders(message: Message) -> Message:
    said = tuple(block for block in message.content if not isinstance(block, Reminder))
    return message if len(said) == len(message.content) else message.model_copy(update={"content": said})
