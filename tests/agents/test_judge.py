"""A call that a person must agree to: asked about, answered, recorded; and the conversation goes on."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runner.agents.base import Clock
from runner.approvals import Answer, Ask, QueueApprover
from runner.approvals.base import in_vain
from runner.approvals.queue import FOLDER, answer, questions
from runner.config import load
from runner.errors import Cancelled
from runner.policy import Policy
from runner.sandbox.base import REPO, Sandbox
from runner.transcript import ApprovalAnswered, ApprovalAsked, ToolDecided, ToolRan
from tests.agents.jobs import (
    FOR_JOB,
    NO,
    ONCE,
    Job,
    Person,
    Start,
    bash,
    blacklist,
    calls,
    interactive,
    says,
    whitelist,
)
from tests.approvals.terminals import somebody
from tests.approvals.test_queue import until

TOUCH = bash("touch a.txt")


def _exists(sandbox: Sandbox, name: str) -> bool:
    return sandbox.stat(f"{REPO}/{name}").kind == "file"


def _decided(job: Job) -> list[tuple[bool, str | None, str | None]]:
    return [(event.allowed, event.verdict, event.approval) for event in job.recorded(ToolDecided)]


# -- asked and answered


def test_what_a_person_allows_is_run(start: Start, sandbox: Sandbox) -> None:
    job = start(TOUCH, says("Done."), policy=interactive(), approver=Person(ONCE), job="fix-1")
    assert job.run().reason == "done"
    assert _exists(sandbox, "a.txt")
    assert _decided(job) == [(True, "ask", "fix-1/1")]
    assert job.recorded(ToolDecided)[0].reason.endswith("; ana allowed it once")


def test_what_a_person_denies_is_not_run_and_the_model_hears_why(start: Start, sandbox: Sandbox) -> None:
    job = start(TOUCH, says("Done."), policy=interactive(), approver=Person(NO))
    assert job.run().reason == "done"
    assert not _exists(sandbox, "a.txt")
    assert job.answers(1)[0]["content"] == "Denied by a person: not now"
    assert job.answers(1)[0]["is_error"]
    assert _decided(job) == [(False, "ask", "1")]
    assert job.recorded(ToolDecided)[0].reason.endswith("; ana denied it: not now")
    assert not job.recorded(ToolRan)[0].ran


def test_nobody_answers_and_the_model_hears_that(start: Start, sandbox: Sandbox) -> None:
    class Away:
        def ask(self, question: Ask) -> Answer:
            return in_vain(question)

    job = start(TOUCH, says("Done."), policy=interactive(), approver=Away())
    job.run()
    assert job.answers(1)[0]["content"] == "Denied: a person has to allow this, and nobody answered within 600 s."
    assert not _exists(sandbox, "a.txt")


def test_without_anybody_to_ask_it_is_denied_at_once(start: Start) -> None:
    job = start(TOUCH, says("Done."), policy=interactive())
    job.run()
    assert job.answers(1)[0]["content"] == "Denied: a person has to allow this, and there is nobody to ask."


def test_a_rule_that_asks_beats_one_that_allows(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nmode: whitelist\nallow: ['Bash(touch:*)']\nask:\n  - Bash(touch a:*)\n")
    person = Person(ONCE)
    job = start(bash("touch b"), bash("touch a"), says("Done."), policy=load(file, Policy).value, approver=person)
    job.run()
    assert [asked.call for asked in person.asked] == ["Bash(touch a)"]
    assert (person.asked[0].rule, person.asked[0].where) == ("Bash(touch a:*)", f"{file}:5")
    assert [(event.rule, event.where) for event in job.recorded(ToolDecided)][1] == ("Bash(touch a:*)", f"{file}:5")


def test_a_denial_beats_a_question(start: Start) -> None:
    person = Person()
    policy = blacklist("Bash(rm:*)", ask=["Bash(touch:*)"])
    job = start(bash("touch a && rm b"), says("Done."), policy=policy, approver=person)
    job.run()
    assert person.asked == []
    assert _decided(job) == [(False, "deny", None)]


def test_a_call_of_several_parts_is_one_question_about_the_first_that_asks(start: Start, sandbox: Sandbox) -> None:
    sandbox.exec("ln -s real link; echo x > real")
    person = Person(ONCE)
    policy = interactive("Read(link)")
    job = start(calls(("Read", {"file_path": "link"})), says("Done."), policy=policy, approver=person)
    job.run()
    assert [asked.call for asked in person.asked] == [f"Read({REPO}/real)"]
    assert job.recorded(ToolDecided)[0].subjects == (f"Read({REPO}/link)", f"Read({REPO}/real)")


def test_the_question_holds_all_that_the_call_was_given(start: Start) -> None:
    person, given = Person(NO), {"file_path": "a.sh", "content": "rm -rf /\n"}
    job = start(calls(("Write", given)), says("Done."), policy=interactive(), approver=person)
    job.run()
    assert person.asked[0].call == f"Write({REPO}/a.sh)"
    assert json.loads(person.asked[0].input) == given


def test_question_and_answer_are_recorded_around_the_decision(start: Start) -> None:
    job = start(TOUCH, says("Done."), policy=interactive(approval_timeout=90), approver=Person(NO))
    job.run()
    (asked,), (answered,) = job.recorded(ApprovalAsked), job.recorded(ApprovalAnswered)
    assert (asked.id, asked.turn, asked.call, asked.expires_seconds) == ("1", 1, "Bash(touch a.txt)", 90)
    assert (answered.id, answered.allowed, answered.scope, answered.by) == ("1", False, "once", "ana")
    assert answered.reason == "not now"
    kinds = [type(event) for event in job.events]
    assert kinds[kinds.index(ApprovalAsked) :][:4] == [ApprovalAsked, ApprovalAnswered, ToolDecided, ToolRan]


def test_each_of_several_calls_in_a_reply_is_answered_whatever_a_person_says(start: Start) -> None:
    turn = calls(*(("Bash", {"command": f"echo {number}"}) for number in range(4)))
    job = start(turn, says("Done."), policy=interactive(), approver=Person(ONCE, NO, ONCE, NO))
    assert job.run().reason == "done"
    contents = [answered["content"] for answered in job.answers(1)]
    assert contents == ["0", "Denied by a person: not now", "2", "Denied by a person: not now"]


def test_what_a_blacklist_lets_pass_unread_is_marked(start: Start) -> None:
    job = start(bash("echo 'no end"), bash("true"), says("Done."))
    job.run()
    assert [(event.allowed, event.unjudged) for event in job.recorded(ToolDecided)] == [(True, True), (True, False)]


def test_questions_that_others_asked_in_the_job_count_for_its_ids(start: Start) -> None:
    asked = ApprovalAsked(id="fix-1/1", turn=0, call="x", rule=None, where=None, reason="", expires_seconds=1)
    person = Person(NO, NO)
    job = start(TOUCH, TOUCH, says("Done."), policy=interactive(), approver=person, job="fix-1", events=[asked])
    job.run()
    assert [asked.id for asked in person.asked] == ["fix-1/2", "fix-1/3"]


# -- once, and for this job


def test_once_is_for_one_call(start: Start) -> None:
    person = Person(ONCE, NO)
    job = start(TOUCH, TOUCH, says("Done."), policy=interactive(), approver=person)
    job.run()
    assert [allowed for allowed, _, _ in _decided(job)] == [True, False]


def test_for_this_job_covers_the_same_call_and_is_recorded_with_its_approval(start: Start) -> None:
    person = Person(FOR_JOB)
    job = start(TOUCH, bash("true"), TOUCH, says("Done."), policy=blacklist(ask=["Bash(touch:*)"]), approver=person)
    job.run()
    assert len(person.asked) == len(job.recorded(ApprovalAsked)) == 1
    assert _decided(job) == [(True, "ask", "1"), (True, "allow", None), (True, "ask", "1")]
    assert job.recorded(ToolDecided)[2].reason.endswith("; ana allowed it for this job")


def test_for_this_job_covers_what_the_suggested_rule_allows_and_nothing_beside_it(start: Start) -> None:
    person = Person(FOR_JOB)
    job = start(
        calls(("Write", {"file_path": "a.txt", "content": "x"})),
        calls(("Edit", {"file_path": "a.txt", "old_string": "x", "new_string": "y"})),
        calls(("Write", {"file_path": "b.txt", "content": "x"})),
        says("Done."),
        policy=interactive(),
        approver=person,
    )
    job.run()
    assert person.asked[0].suggestion is not None
    assert [asked.call for asked in person.asked] == [f"Write({REPO}/a.txt)", f"Write({REPO}/b.txt)"]
    assert [allowed for allowed, _, _ in _decided(job)] == [True, True, False]


def test_a_command_is_not_covered_because_part_of_it_is(start: Start) -> None:
    person = Person(FOR_JOB)
    commands = ("touch a", "touch a && rm b", "rm b; touch a", "touch $(rm b)")
    job = start(*map(bash, commands), says("Done."), policy=interactive(), approver=person)
    job.run()
    assert [asked.call for asked in person.asked] == [f"Bash({command})" for command in commands]


def test_the_same_words_in_another_folder_are_another_call(start: Start, sandbox: Sandbox) -> None:
    sandbox.exec("mkdir sub")
    person = Person(FOR_JOB)
    policy = blacklist(ask=["Bash(touch:*)"])
    job = start(TOUCH, bash("cd sub"), TOUCH, says("Done."), policy=policy, approver=person)
    job.run()
    assert len(person.asked) == 2


def test_a_yes_for_this_job_ends_with_the_job(start: Start) -> None:
    for person in (Person(FOR_JOB), Person(NO)):
        job = start(TOUCH, says("Done."), policy=interactive(), approver=person)
        job.run()
        assert len(person.asked) == 1


# -- --approve


WRITE = ("Write", {"file_path": "a.txt", "content": "x"})
EDIT = ("Edit", {"file_path": "a.txt", "old_string": "x", "new_string": "y"})
SHELL, READ, SEARCH = ("Bash", {"command": "true"}), ("Read", {"file_path": "a.txt"}), ("Glob", {"pattern": "*"})


@pytest.mark.parametrize(
    ("approve", "tools"),
    [
        ("every", ["Write", "Edit", "Bash", "Read", "Glob"]),
        ("writes", ["Write", "Edit", "Bash"]),
        ("exec", ["Bash"]),
        ("none", []),
    ],
)
def test_approve_asks_about_calls_that_the_policy_allows(start: Start, approve: str, tools: list[str]) -> None:
    person = Person(*[ONCE] * 5)
    job = start(calls(WRITE, EDIT, SHELL, READ, SEARCH), says("Done."), approver=person, approve=approve)
    assert job.run().reason == "done"
    assert [asked.call.partition("(")[0] for asked in person.asked] == tools
    assert {asked.reason for asked in person.asked} <= {f"--approve {approve} asks about it"}
    assert {event.verdict for event in job.recorded(ToolDecided)} == {"allow"}
    assert all(event.allowed for event in job.recorded(ToolDecided))


def test_approve_does_not_ask_about_what_is_denied(start: Start) -> None:
    person = Person()
    job = start(calls(SHELL), says("Done."), policy=whitelist("Read(**)"), approver=person, approve="every")
    job.run()
    assert person.asked == []


def test_approve_asks_although_a_rule_was_granted_for_other_calls(start: Start) -> None:
    person = Person(FOR_JOB, ONCE)
    policy = interactive("Bash(true)")
    job = start(TOUCH, calls(SHELL), TOUCH, says("Done."), policy=policy, approver=person, approve="exec")
    job.run()
    assert [asked.call for asked in person.asked] == ["Bash(touch a.txt)", "Bash(true)"]


def test_calls_that_make_no_sense_are_not_asked_about(start: Start) -> None:
    person = Person()
    job = start(calls(("Nonsense", {}), ("Read", {"path": "x"})), says("Done."), approver=person, approve="every")
    job.run()
    assert person.asked == []


# -- time


class HandClock(Clock):
    """Goes only where it is put."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.left = seconds

    @property
    def seconds_left(self) -> float:
        return self.left


def test_waiting_for_a_person_is_no_time_of_the_job(start: Start) -> None:
    class Slow(Person):
        def ask(self, question: Ask) -> Answer:
            time.sleep(1)
            return super().ask(question)

    slow = Slow(ONCE)
    job = start(TOUCH, says("Done."), policy=interactive(approval_timeout=600), approver=slow, seconds=120)
    left, began = job.context.clock.seconds_left, time.monotonic()
    job.run()
    passed, counted = time.monotonic() - began, left - job.context.clock.seconds_left
    assert passed - counted >= 1
    assert slow.asked[0].seconds == 600
    assert job.recorded(ApprovalAnswered)[0].seconds >= 1


def test_the_clock_can_go_on_and_then_the_question_ends_with_the_job(start: Start) -> None:
    clock = HandClock(60)

    class TooSlow(Person):
        def ask(self, question: Ask) -> Answer:
            clock.left = 0
            return super().ask(question)

    policy, person = interactive(approval_timeout=600, approval_pauses_clock=False), TooSlow(ONCE)
    job = start(TOUCH, says("Done."), policy=policy, approver=person, clock=clock)
    assert job.run().reason == "limits.seconds"
    assert person.asked[0].seconds == 60
    assert job.recorded(ToolRan)[0].content == "Bash was not run: the job's time is over."


# -- stopped


@pytest.mark.parametrize("stop", [Cancelled(), KeyboardInterrupt()])
def test_a_stop_while_a_question_is_open_flies_through(start: Start, stop: BaseException) -> None:
    job = start(TOUCH, says("Done."), policy=interactive(), approver=Person(stop))
    with pytest.raises(type(stop)):
        job.run()
    assert len(job.recorded(ApprovalAsked)) == 1
    assert job.recorded(ToolDecided) == []


# -- with the real ones


def test_a_job_is_answered_through_the_queue(start: Start, sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "fix-1"
    folder.mkdir(parents=True)
    approver = QueueApprover(folder / FOLDER)
    job = start(TOUCH, says("Done."), policy=interactive(), approver=approver, job="fix-1")
    thread = threading.Thread(target=job.run, daemon=True)
    thread.start()
    until(lambda: questions(tmp_path / "runs"))
    (found,) = questions(tmp_path / "runs")
    assert found.question.id == job.recorded(ApprovalAsked)[0].id == "fix-1/1"
    answer(found, allowed=True, scope="once", reason="")
    thread.join(60)
    assert _exists(sandbox, "a.txt")


def test_a_job_is_answered_at_the_terminal(start: Start, sandbox: Sandbox) -> None:
    with somebody() as person:
        job = start(TOUCH, says("Done."), policy=interactive(), approver=person.approver)
        thread = threading.Thread(target=job.run, daemon=True)
        thread.start()
        person.sees("\n> ")
        person.types("o\n")
        thread.join(60)
    assert _exists(sandbox, "a.txt")


# -- what the model is told besides


def test_what_a_tool_says_is_masked_for_the_model_and_the_transcript(start: Start) -> None:
    def mask(text: str) -> str:
        return text.replace("s3cret", "***")

    person = Person(ONCE)
    job = start(
        bash("echo s3cret"),
        calls(("Read", {"file_path": "s3cret.txt"})),
        says("Done."),
        policy=blacklist(ask=["Bash(echo:*)"]),
        approver=person,
        mask=mask,
    )
    job.run()
    assert job.answers(1)[0]["content"] == "***"
    assert "s3cret" not in json.dumps([ran.model_dump() for ran in job.recorded(ToolRan)])
    assert "s3cret" not in repr(person.asked)


def test_a_suggestion_that_holds_a_secret_is_not_made(start: Start) -> None:
    person = Person(NO)
    given: dict[str, Any] = {"file_path": "s3cret.txt"}
    job = start(
        calls(("Read", given)),
        says("Done."),
        policy=interactive(),
        approver=person,
        mask=lambda text: text.replace("s3cret", "***"),
    )
    job.run()
    assert person.asked[0].suggestion is None


def test_what_happened_on_the_network_is_told_with_the_next_answer(start: Start) -> None:
    news = [(), ("pypi.org:443 was refused: not in the policy's egress list",), ()]
    job = start(bash("echo 1"), bash("echo 2"), bash("echo 3"), says("Done."), notices=lambda: news.pop(0))
    job.run()
    assert [job.answers(number)[0]["content"] for number in (1, 2, 3)] == [
        "1",
        "2\n(pypi.org:443 was refused: not in the policy's egress list)",
        "3",
    ]


def test_of_very_many_notices_the_model_is_told_some(start: Start) -> None:
    job = start(bash("true"), says("Done."), notices=lambda: tuple(f"host{number}" for number in range(1_000)))
    job.run()
    content = job.answers(1)[0]["content"]
    assert content.endswith("(host9)\n(and 990 more)")
