"""A model that plays what earlier attempts at the job paid for, and then goes on live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from runner.messages import Price, Reply, Request, Retried
from runner.models.base import Differs, Model, NoReply, request_hash
from runner.models.prices import price_of
from runner.transcript import ModelReplied


class Playing:
    """See `runner.models.base.Model`.

    The recorded replies come in their order, as `played`, at once and at no cost; then `live` is asked, and where that
    is None there is no reply. A reply keeps its `wasted`, so that the job counts at each turn what it counted then.

    The first request that is not the recorded one is told, by `diverged(turn, what)`; those after it differ because of
    it. "stop" ends there, without a reply. "go_on" plays on: the reply is paid for, and the conversation holds what the
    tools answer now.
    """

    def __init__(
        self,
        recorded: Sequence[ModelReplied],
        live: Model | None,
        *,
        on_difference: Literal["stop", "go_on"],
        diverged: Callable[[int, str], None] = lambda turn, what: None,
    ) -> None:
        self._recorded = recorded
        self._live = live
        self._stops = on_difference == "stop"
        self._diverged = diverged
        self._differs = False
        self._played = 0

    @property
    def name(self) -> str:
        if self._live is not None:
            return self._live.name
        return self._recorded[0].reply.model if self._recorded else "recording"

    @property
    def price(self) -> Price | None:
        if self._live is not None:
            return self._live.price
        return price_of(self._recorded[0].reply.model) if self._recorded else None

    def reply(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_retry: Callable[[Retried], None] | None = None,
    ) -> Reply:
        if self._played < len(self._recorded):
            return self._play(request, on_text)
        if self._live is None:
            raise NoReply(f"{self.name}: {end_of_recording(self._played)}")
        return self._live.reply(request, on_text=on_text, on_retry=on_retry)

    def close(self) -> None:
        if self._live is not None:
            self._live.close()

    def _play(self, request: Request, on_text: Callable[[str], None] | None) -> Reply:
        recorded = self._recorded[self._played]
        what = difference(recorded, request)
        if what is not None and not self._differs:
            self._differs = True
            self._diverged(recorded.turn, what)
        if what is not None and self._stops:
            raise Differs(f"{self.name}: {what}; the job was to stop at a difference")
        self._played += 1
        if on_text is not None and recorded.reply.text:
            on_text(recorded.reply.text)
        return recorded.reply.model_copy(update={"played": True})


def difference(recorded: ModelReplied, request: Request) -> str | None:
    """What is known of how a request differs from the recorded one; None when it is the same."""
    asked = request_hash(request)
    if asked == recorded.request_hash:
        return None
    return (
        f"the request of turn {recorded.turn} is not the recorded one "
        f"({asked[:12]} instead of {recorded.request_hash[:12]}): task, prompt, tools or what a tool answered "
        "differ from then"
    )


def end_of_recording(played: int) -> str:
    return f"the recording ends with reply {played}; the job wants one more"
