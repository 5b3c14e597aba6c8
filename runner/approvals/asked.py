"""A question to a person, and the answer, both in the transcript."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.approvals.base import Answer, Approver, Ask
from runner.transcript import AnyEvent, ApprovalAnswered, ApprovalAsked


def ask(approver: Approver, question: Ask, *, turn: int, record: Callable[[AnyEvent], None]) -> Answer:
    """What the person says. What flies through stops the job."""
    record(
        ApprovalAsked(
            id=question.id,
            turn=turn,
            call=question.call,
            input_sha256=question.input_sha256,
            rule=question.rule,
            where=question.where,
            reason=question.reason,
            expires_seconds=question.seconds,
        )
    )
    began = time.monotonic()
    answer = approver.ask(question)
    record(
        ApprovalAnswered(
            id=question.id,
            allowed=answer.allowed,
            scope=answer.scope,
            by=answer.by,
            reason=answer.reason,
            seconds=time.monotonic() - began,
        )
    )
    return answer
