"""Answers that a person gave in an earlier attempt at the same job: nobody is asked the same thing twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from runner.approvals.base import NOBODY, TIMEOUT, Answer, Approver, Ask
from runner.transcript import AnyEvent, ApprovalAnswered, ApprovalAsked


class Asked(NamedTuple):
    """What makes a question the same one."""

    id: str
    call: str
    input_sha256: str


class Remembered:
    """Asks `approver` only what was not asked before, under the same id and about the very same call."""

    def __init__(self, approver: Approver, given: Mapping[Asked, Answer]) -> None:
        self._approver = approver
        self._given = given

    def ask(self, question: Ask) -> Answer:
        return self._given.get(Asked(question.id, question.call, question.input_sha256)) or self._approver.ask(question)


def answers(events: Iterable[AnyEvent]) -> dict[Asked, Answer]:
    """What people answered in the transcripts of a job's attempts; not what nobody answered."""
    asked: dict[str, Asked] = {}
    given: dict[Asked, Answer] = {}
    for event in events:
        # In their order: an attempt that took another way asks about another call under an id that was there before.
        if isinstance(event, ApprovalAsked):
            asked[event.id] = Asked(event.id, event.call, event.input_sha256)
        elif isinstance(event, ApprovalAnswered) and event.id in asked and event.by not in (TIMEOUT, NOBODY):
            answer = Answer(allowed=event.allowed, scope=event.scope, by=event.by, reason=event.reason)
            given[asked[event.id]] = answer
    return given
