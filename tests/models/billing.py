"""A provider that bills: its answers in every state of repair, and what each of them costs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.ledger import micro_usd
from runner.messages import Price, Usage
from runner.models.exchange import Exchange, event


@dataclass(frozen=True, kw_only=True)
class Answer:
    """To one try."""

    status: int | None = None
    """An error, which is not billed, instead of a reply."""
    share: float = 1.0
    """Of the most that the reply can be, in tokens of input and of output."""
    cached: float = 0.0
    """Share of the input that is written to the prompt cache."""
    events: int | None = None
    """Break off after so many; None: a whole reply. It is billed as a whole all the same."""


class Provider:
    """Makes turns for a ScriptedServer, and adds up in `bill`, in micro-USD, what they cost."""

    def __init__(self, price: Price, input_tokens: int) -> None:
        """`input_tokens` is the most that a request can be counted as."""
        self._price = price
        self._input_tokens = input_tokens
        self._lock = threading.Lock()
        self.bill = 0

    def turn(self, answer: Answer) -> Callable[[Exchange], None]:
        def serve(exchange: Exchange) -> None:
            if answer.status is not None:
                exchange.error(answer.status, "scripted trouble")
                return
            usage = self._usage(answer, json.loads(exchange.body)["max_tokens"])
            # Before a byte of it is sent: whatever then comes of it, it is billed.
            with self._lock:
                self.bill += micro_usd(self._price.cost_usd(usage))
            events = [event(**one) for one in _events(usage)]
            if answer.events is None or answer.events > 0:
                exchange.stream()
                exchange.send(b"".join(events[: answer.events]))
            if answer.events is None:
                exchange.end()

        return serve

    def _usage(self, answer: Answer, max_tokens: int) -> Usage:
        counted = int(self._input_tokens * answer.share)
        written = int(counted * answer.cached)
        return Usage(
            input_tokens=counted - written,
            cache_write_tokens=written,
            output_tokens=int(max_tokens * answer.share),
        )


def _events(usage: Usage) -> list[dict[str, Any]]:
    counts = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": min(1, usage.output_tokens),
    }
    message = {"id": "msg_1", "model": "m", "usage": counts}
    return [
        {"kind": "message_start", "message": message},
        {"kind": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"kind": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "All is well."}},
        {"kind": "content_block_stop", "index": 0},
        {
            "kind": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": usage.output_tokens},
        },
        {"kind": "message_stop"},
    ]
