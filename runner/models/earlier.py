"""What the earlier attempts at a job have paid for, from their transcripts and spools.

Each try of a request stands in exactly one place: one that failed in ModelRetried, or, the last one, in ModelFailed;
one that was answered in ModelReplied; and what a runner was killed over in the spool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from runner.ledger import micro_usd
from runner.messages import Price, Reply, Usage
from runner.models.spool import SPOOL, Spooled, SpoolHeader, read_spool
from runner.transcript import AgentPrompted, AnyEvent, ModelFailed, ModelReplied, ModelRetried, Resumed, of_kind, read


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """All that was paid for a job so far."""

    replies: tuple[ModelReplied, ...] = ()
    """That an attempt which goes on where the others ended can play, in their order."""
    usage: Usage = Usage()
    """Of all else that is known to be billed: failed tries that no reply followed, replies that are not played."""
    cost_usd: Decimal | None = Decimal(0)
    """Of that usage; None when the price is unknown."""
    spent: int = 0
    """Micro-USD, over all tries of all attempts, each rounded up: what their ledger counted. 0 for an unknown price."""
    doubtful: int = 0
    """Micro-USD that may have been billed besides."""


def recorded_of(transcripts: Sequence[Path], *, price: Price | None) -> Earlier:
    """What is paid for by all attempts at one job, oldest first.

    The spool of an attempt is looked for beside its transcript. An attempt whose agent began without being resumed
    began anew: what those before it were answered is paid for, and not played. A torn last line and any spool are what
    a killed runner leaves; raises TranscriptError for a transcript that is damaged otherwise.
    """
    replies: list[ModelReplied] = []
    tries: list[_Try] = []
    for path in transcripts:
        attempt = _Attempt(read(path), read_spool(path.with_name(SPOOL)), price)
        tries += attempt.tries()
        heard = attempt.replies()
        if attempt.began_anew or len(heard) >= len(replies):
            replies = heard
    return _earlier(replies, tries, price)


def _earlier(replies: Sequence[ModelReplied], tries: Sequence[_Try], price: Price | None) -> Earlier:
    used = sum((one.usage for one in tries), Usage())
    played = sum((one.reply.usage + one.reply.wasted for one in replies), Usage())
    if price is None:
        return Earlier(replies=tuple(replies), usage=_less(used, played), cost_usd=None)
    cost = sum((price.cost_usd(one.usage) for one in tries), Decimal(0))
    spent = [micro_usd(price.cost_usd(one.usage)) for one in tries]
    most = [micro_usd(price.cost_usd(one.worst_usage)) for one in tries]
    return Earlier(
        replies=tuple(replies),
        usage=_less(used, played),
        cost_usd=cost - sum((_cost_usd(one.reply, price) for one in replies), Decimal(0)),
        spent=sum(spent),
        doubtful=sum(max(0, worst - known) for worst, known in zip(most, spent, strict=True)),
    )


class _Try(NamedTuple):
    """One request to the provider."""

    usage: Usage
    """Known to be billed."""
    worst_usage: Usage


class _Attempt:
    """What one attempt has recorded, and what its spool knows beyond that."""

    def __init__(self, events: Sequence[AnyEvent], spooled: Spooled | None, price: Price | None) -> None:
        self._events = events
        self._price = price
        last = max((i for i, event in enumerate(events) if isinstance(event, ModelReplied)), default=-1)
        self._retried = [event.retried for event in of_kind(events[last + 1 :], ModelRetried)]
        """Tries of the last request, which no reply has followed so far."""
        self._failed = bool(of_kind(events[last + 1 :], ModelFailed))
        self._spooled = spooled if spooled is not None and self._is_news(spooled.header) else None

    @property
    def began_anew(self) -> bool:
        return bool(of_kind(self._events, AgentPrompted)) and not of_kind(self._events, Resumed)

    def replies(self) -> list[ModelReplied]:
        heard = of_kind(self._events, ModelReplied)
        found = None if self._spooled is None else self._spooled.reply
        taken = {use.id for event in heard for use in event.reply.tool_uses}
        # A reply that repeats a tool call's id was refused when it came: the API takes none of those back.
        if self._spooled is not None and found is not None and taken.isdisjoint(use.id for use in found.tool_uses):
            reply = found.model_copy(update={"wasted": sum((one.usage for one in self._retried), Usage())})
            heard.append(
                ModelReplied(
                    turn=len(heard) + 1,
                    request_hash=self._spooled.header.request_hash,
                    reply=reply,
                    cost_usd=_cost_usd(reply, self._price) if self._price else None,
                    seconds=0.0,
                )
            )
        return heard

    def tries(self) -> Iterator[_Try]:
        """Each that was made live."""
        wasted = Usage()
        """By the request's tries so far."""
        for event in self._events:
            match event:
                case ModelRetried(retried=retried):
                    wasted += retried.usage
                    yield _Try(retried.usage, retried.worst_usage)
                case ModelFailed():
                    yield _Try(_less(event.wasted, wasted), event.worst_usage)
                    wasted = Usage()
                case ModelReplied(reply=reply):
                    wasted = Usage()
                    if not reply.played:
                        yield _Try(reply.usage, reply.usage)
        if self._spooled is not None:
            yield _Try(self._spooled.usage, self._spooled.worst_usage)

    def _is_news(self, header: SpoolHeader) -> bool:
        """Whether no event tells of the try that the spool is of."""
        replied = any(event.request_hash == header.request_hash for event in of_kind(self._events, ModelReplied))
        return not (replied or self._failed) and all(one.attempt < header.attempt for one in self._retried)


def _cost_usd(reply: Reply, price: Price) -> Decimal:
    return price.cost_usd(reply.usage) + price.cost_usd(reply.wasted)


def _less(usage: Usage, less: Usage) -> Usage:
    return Usage(**{name: max(0, getattr(usage, name) - getattr(less, name)) for name in Usage.model_fields})
