"""The gate in whole jobs: what comes out is judged before it becomes a branch."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.approvals.base import Answer, Ask
from runner.report import TRANSCRIPT
from runner.result import JobResult
from runner.transcript import ApprovalAnswered, ApprovalAsked, GateRan, Violation, of_kind, read
from tests.agents.jobs import bash, calls, says
from tests.full_jobs import FIX, RunTask, job_folder, repository, run_task  # noqa: F401  fixtures
from tests.repo.repositories import Repository

pytestmark = pytest.mark.engine


def violations(result: JobResult) -> tuple[Violation, ...]:
    assert result.gate is not None
    return result.gate.violations


class Person:
    """Answers every question alike, and remembers them."""

    def __init__(self, *, allows: bool) -> None:
        self.allows = allows
        self.asked: list[Ask] = []

    def ask(self, question: Ask) -> Answer:
        self.asked.append(question)
        return Answer(allowed=self.allows, scope="once", by="ada")


def test_a_protected_path_in_the_diff_is_denied_and_the_diff_is_kept(
    run_task: RunTask, repository: Repository, tmp_path: Path
) -> None:
    before = repository.git("for-each-ref")
    result = run_task(
        [
            bash("echo fixed > code.txt; mkdir -p .github/workflows; echo 'on: push' > .github/workflows/ci.yml"),
            says("Done."),
        ]
    )
    assert (result.outcome, result.branch) == ("denied", None)
    assert [(found.kind, found.path) for found in violations(result)] == [("protected", ".github/workflows/ci.yml")]
    assert "+on: push" in (job_folder(tmp_path, result) / "patch.diff").read_text()
    assert repository.git("for-each-ref") == before
    assert result.checks == (), "checks ran on what the gate refused"


def test_what_a_rule_denies_is_denied_in_the_diff_whoever_wrote_it(run_task: RunTask) -> None:
    result = run_task(
        [bash("echo fixed > code.txt; echo x | tee new.lock"), says("Done.")], policy={"deny": ["Edit(*.lock)"]}
    )
    assert (result.outcome, result.exit_code) == ("denied", 12)
    [found] = violations(result)
    assert (found.kind, found.path, found.rule) == ("path", "new.lock", "Edit(*.lock)")
    assert found.where is not None
    assert "policy.yaml:" in found.where


def test_a_diff_within_the_rules_passes(run_task: RunTask, tmp_path: Path) -> None:
    result = run_task([FIX, says("Done.")], policy={"deny": ["Edit(*.lock)"]})
    assert result.outcome == "solved"
    [ran] = of_kind(read(job_folder(tmp_path, result) / TRANSCRIPT), GateRan)
    assert ran.violations == ()


@pytest.mark.parametrize(("allows", "outcome"), [(True, "solved"), (False, "denied")])
def test_a_person_is_asked_about_paths_in_the_diff_that_nobody_allowed(
    run_task: RunTask, allows: bool, outcome: str
) -> None:
    person = Person(allows=allows)
    result = run_task(
        [bash("sed -i s/broken/fixed/ code.txt"), says("Done.")], policy={"ask": ["Edit(code.txt)"]}, approver=person
    )
    assert (result.outcome, len(person.asked)) == (outcome, 1)
    assert "Edit(code.txt)" in person.asked[0].call


def test_what_a_person_allowed_a_tool_is_not_asked_again(run_task: RunTask, tmp_path: Path) -> None:
    person = Person(allows=True)
    edit = {"file_path": "code.txt", "old_string": "broken", "new_string": "fixed"}
    result = run_task(
        [calls(("Read", {"file_path": "code.txt"})), calls(("Edit", edit)), says("Done.")],
        policy={"ask": ["Edit(code.txt)"]},
        approver=person,
    )
    assert (result.outcome, len(person.asked)) == ("solved", 1)
    events = read(job_folder(tmp_path, result) / TRANSCRIPT)
    assert [(event.allowed, event.by) for event in of_kind(events, ApprovalAnswered)] == [(True, "ada")]
    assert of_kind(events, ApprovalAsked)[0].rule == "Edit(code.txt)"


def test_with_nobody_to_ask_it_is_denied(run_task: RunTask) -> None:
    result = run_task([FIX, says("Done.")], policy={"ask": ["Bash(git commit:*)"]}, checks={})
    assert (result.outcome, result.approvals.denied) == ("denied", 1)
