"""What a model is to the rest of the runner: one finished reply for one request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Protocol

from runner.errors import ModelError
from runner.messages import Price, Reply, Request, Retried, Usage


class Model(Protocol):
    """A language model behind some wire.

    `reply` returns a whole Reply or raises NoReply (after its retries) or nothing else. It never returns a reply whose
    stream was cut, and never runs past `request.seconds`. `on_text` gets the text as it comes, that of failed tries
    included; `on_retry` is called before each wait. What the two raise flies through.
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
        """Let go of connections, servers and files; may be called twice."""
        ...


class NoReply(ModelError):
    """The model gave no usable reply. `wasted` is the usage of its tries that the provider is known to bill."""

    def __init__(self, message: str, *, wasted: Usage | None = None) -> None:
        super().__init__(message)
        self.wasted = wasted or Usage()


def request_hash(request: Request) -> str:
    """SHA-256, in hex, over system, messages, tools and max_tokens: equal exactly when the model is asked the same."""
    asked = request.model_dump(exclude={"seconds"})
    # Sorted, because a recorded tool call may come back with its arguments in another order than the model wrote them;
    # ASCII, because file names may hold surrogates, which have no UTF-8.
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
