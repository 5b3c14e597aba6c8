"""Nobody is asked twice what they answered in an earlier attempt, and no answer is taken for that to something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.approvals import Answer, Ask
from runner.approvals.base import NOBODY, TIMEOUT
from runner.approvals.remembered import Remembered, answers
from runner.transcript import ApprovalAnswered, ApprovalAsked
from tests.agents.jobs import NO, ONCE, Person

QUESTION = Ask(
    id="fix/1",
    call="Bash(make)",
    reason="the policy asks",
    rule=None,
    where=None,
    suggestion=None,
    input="{}",
    seconds=60,
)


def asked(call: str = "Bash(make)", id: str = "fix/1") -> ApprovalAsked:
    given = QUESTION.input_sha256
    return ApprovalAsked(
        id=id, turn=1, call=call, input_sha256=given, rule=None, where=None, reason="", expires_seconds=60
    )


def answered(answer: Answer = ONCE, id: str = "fix/1") -> ApprovalAnswered:
    return ApprovalAnswered(
        id=id, allowed=answer.allowed, scope=answer.scope, by=answer.by, reason=answer.reason, seconds=1
    )


@pytest.mark.parametrize("answer", [ONCE, NO])
def test_an_answer_is_given_again_without_asking(answer: Answer) -> None:
    person = Person()
    assert Remembered(person, answers([asked(), answered(answer)])).ask(QUESTION) == answer
    assert person.asked == []


@pytest.mark.parametrize("other", [{"id": "fix/2"}, {"call": "Bash(rm -rf .)"}, {"input": '{"content": "else"}'}])
def test_what_was_not_asked_then_is_asked_now(other: dict[str, str]) -> None:
    person, question = Person(NO), replace(QUESTION, **other)
    assert Remembered(person, answers([asked(), answered()])).ask(question) == NO
    assert person.asked == [question]


def test_a_yes_is_not_taken_for_what_a_later_attempt_asked_under_the_same_id() -> None:
    given = answers([asked("Bash(make)"), answered(ONCE), asked("Bash(rm -rf .)")])
    assert given == {("fix/1", "Bash(make)", QUESTION.input_sha256): ONCE}


@pytest.mark.parametrize("by", [TIMEOUT, NOBODY])
def test_that_nobody_answered_is_no_answer(by: str) -> None:
    assert answers([asked(), answered(replace(NO, by=by))]) == {}
