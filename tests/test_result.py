"""The result of a job: the outcome by evidence, row by row, and everything else from the transcript alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from runner.errors import (
    EXIT_CODES,
    Cancelled,
    ChecksError,
    ControlNotEnforced,
    ModelError,
    Outcome,
    RepoError,
    RunnerError,
    SandboxLost,
)
from runner.messages import Reply, Retried, Text, Usage
from runner.result import JobResult, billed, compute_result, judge, spans, subject_of
from runner.transcript import (
    AgentEnded,
    AgentPrompted,
    AnyEvent,
    ApprovalAnswered,
    ApprovalAsked,
    BranchDelivered,
    Diverged,
    GateRan,
    JobEnded,
    JobStarted,
    ModelFailed,
    ModelReplied,
    ModelRetried,
    Resumed,
    SandboxOpened,
    SnapshotUsed,
    ToolDecided,
    Violation,
)
from tests.report.sample import (
    Clock,
    call,
    checked,
    contained,
    decided,
    guarded_events,
    job_facts,
    ran,
    replied,
    sample_events,
    sample_result,
    sandbox_report,
    taken,
    tried,
    violations,
)

DONE, TURNS = AgentEnded(reason="done"), AgentEnded(reason="limits.turns")
REFUSED, SILENT = AgentEnded(reason="refusal"), AgentEnded(reason="no_answer")
CHANGED, UNCHANGED = taken(), taken(commit=None, commits=(), files=0, insertions=0, deletions=0)
PASS, FAIL = checked("pytest -q", 0), checked("pytest -q", 1)
DENIED = decided(3, call(3, "Edit", file_path="/workspace/repo/a.py"), allowed=False)
CHECKS = ("pytest -q",)


def _outcome(events: Sequence[AnyEvent], **more: Any) -> Outcome:
    return judge(events, **{"checks": CHECKS, "expect_change": True} | more).outcome


# The rows of the table in the docstring of `judge`, in its order.


def test_1_a_job_that_was_told_to_stop_is_cancelled_whatever_else_is_true() -> None:
    events = (DONE, CHANGED, PASS)
    verdict = judge(events, checks=CHECKS, expect_change=True, tampered=("tests/a.py",), error=Cancelled(15))
    assert verdict == ("cancelled", "cancelled by SIGTERM", 143)


def test_2_tampering_counts_although_the_checks_passed() -> None:
    verdict = judge((DONE, CHANGED, PASS), checks=CHECKS, expect_change=True, tampered=("tests/a.py", "tests/b.py"))
    assert verdict == ("tampered", "interfered with: tests/a.py, tests/b.py", 14)


def test_2_tampering_counts_although_an_error_came_after_it() -> None:
    assert _outcome((DONE, CHANGED), tampered=("conftest.py",), error=ChecksError("no verdict")) == "tampered"


CHEATED = checked("pytest -q", 0, tampered="passes only with the conftest.py of the work")


def test_2_a_check_that_was_interfered_with_is_tampered_and_says_how() -> None:
    verdict = judge((DONE, CHANGED, CHEATED), checks=CHECKS, expect_change=True)
    reason = "interfered with: 'pytest -q': passes only with the conftest.py of the work"
    assert verdict == ("tampered", reason, 14)
    both = judge((DONE, CHANGED, CHEATED), checks=CHECKS, expect_change=True, tampered=("a.py",))
    assert both.reason == reason.replace("'pytest", "a.py; 'pytest")


def test_2_interference_that_was_undone_is_not_held_against_the_job() -> None:
    assert _outcome((DONE, CHANGED, CHEATED, DONE, CHANGED, PASS)) == "solved"


REFUSED_BY_GATE, PASSED_GATE = GateRan(violations=violations()), GateRan(violations=())


def test_3_what_the_gate_refuses_is_denied_although_the_checks_passed() -> None:
    verdict = judge((DONE, CHANGED, REFUSED_BY_GATE, PASS), checks=CHECKS, expect_change=True)
    reason = "the gate refused the diff: .github/workflows/ci.yml: CI workflows are protected; and 2 more violations"
    assert verdict == ("denied", reason, 12)


def test_3_the_rule_of_the_first_violation_is_named_with_its_place() -> None:
    _, second, _ = violations()
    verdict = judge((DONE, CHANGED, GateRan(violations=(second,))), checks=(), expect_change=True)
    assert verdict.reason == (
        "the gate refused the diff: docs/a.md: the policy denies it by Edit(docs/**) (policies/ci.yaml:12)"
    )


def test_3_a_violation_without_a_path_is_named_by_its_reason() -> None:
    violation = Violation(kind="files", reason="1,200 files changed, 1,000 may")
    verdict = judge((DONE, CHANGED, GateRan(violations=(violation,))), checks=(), expect_change=True)
    assert verdict.reason == "the gate refused the diff: 1,200 files changed, 1,000 may"


@pytest.mark.parametrize("error", [ChecksError("no verdict"), ModelError("down"), SandboxLost("gone")])
def test_3_the_gate_counts_although_an_error_came_after_it(error: RunnerError) -> None:
    assert _outcome((CHANGED, REFUSED_BY_GATE), error=error) == "denied"


def test_3_the_last_judgement_of_the_gate_counts() -> None:
    assert _outcome((CHANGED, REFUSED_BY_GATE, DONE, CHANGED, PASSED_GATE, PASS)) == "solved"
    assert _outcome((CHANGED, PASSED_GATE, DONE, CHANGED, REFUSED_BY_GATE, PASS)) == "denied"


def test_3_what_was_undone_again_is_not_held_against_the_job() -> None:
    assert _outcome((CHANGED, REFUSED_BY_GATE, DONE, UNCHANGED)) == "no_change"


def test_3_tampering_and_being_stopped_come_before_the_gate() -> None:
    assert _outcome((CHANGED, REFUSED_BY_GATE), tampered=("tests/a.py",)) == "tampered"
    assert _outcome((CHANGED, REFUSED_BY_GATE), error=Cancelled()) == "cancelled"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SandboxLost("the container is gone"), "sandbox_error"),
        (ChecksError("no verdict"), "checks_error"),
        (RepoError("no space"), "repo_error"),
        (ControlNotEnforced("pids: not enforced"), "config_error"),
    ],
)
@pytest.mark.parametrize("events", [(), (TURNS, CHANGED, FAIL), (DONE, CHANGED, PASS)])
def test_4_an_error_of_ours_is_the_outcome(events: Sequence[AnyEvent], error: RunnerError, outcome: Outcome) -> None:
    verdict = judge(events, checks=CHECKS, expect_change=True, error=error)
    assert verdict == (outcome, str(error), EXIT_CODES[outcome])


CURED, PROVEN = (
    checked("pytest -q", 0, kind="fail_to_pass"),
    checked("pytest -q", 1, kind="fail_to_pass", on="base", round=0),
)
TIMED_OUT = checked("pytest -q", None, kind="fail_to_pass", on="base", timed_out=True)


@pytest.mark.parametrize("on_base", [PROVEN, TIMED_OUT])
def test_4_a_check_that_failed_on_base_and_passes_now_is_solved(on_base: AnyEvent) -> None:
    assert _outcome((on_base, DONE, CHANGED, CURED)) == "solved"


@pytest.mark.parametrize("events", [(), (DONE, CHANGED, CURED), (DONE, UNCHANGED)])
def test_4_a_check_that_should_fail_on_base_and_passes_there_proves_nothing(events: Sequence[AnyEvent]) -> None:
    passes = checked("pytest -q", 0, kind="fail_to_pass", on="base")
    verdict = judge((passes, *events), checks=CHECKS, expect_change=True)
    reason = "checks.fail_to_pass: 'pytest -q' passes on base already, so that it proves nothing"
    assert verdict == ("checks_error", reason, 22)


def test_4_a_check_that_should_pass_on_base_and_fails_there_proves_nothing() -> None:
    fails = checked("make", 2, kind="pass_to_pass", on="base")
    verdict = judge((fails, fails, DONE, CHANGED, PASS), checks=CHECKS, expect_change=True)
    assert verdict.reason == "checks.pass_to_pass: 'make' fails on base already (exit 2); and 1 more check like it"
    assert verdict.outcome == "checks_error"


def test_4_an_error_that_ended_the_job_is_named_before_what_base_says() -> None:
    fails = checked("make", 2, kind="pass_to_pass", on="base")
    assert _outcome((fails,), error=SandboxLost("gone")) == "sandbox_error"


def test_5_checks_on_base_are_no_part_of_the_verdict() -> None:
    assert _outcome((PROVEN, DONE, CHANGED, PASS)) == "solved"
    assert _outcome((checked("pytest -q", 1, on="base"), DONE, CHANGED, PASS)) == "solved"


def test_5_a_check_must_pass_as_base_would_judge_it_and_as_the_work_left_it() -> None:
    left, right = checked("pytest -q", 1, on="as_left"), checked("pytest -q", 0, on="as_left")
    assert _outcome((DONE, CHANGED, PASS, right)) == "solved"
    assert _outcome((DONE, CHANGED, FAIL, right)) == "unsolved"
    verdict = judge((DONE, CHANGED, PASS, left), checks=CHECKS, expect_change=True)
    reason = "1 of 1 checks failed; first 'pytest -q' with the work's own tests: exit 1"
    assert verdict == ("unsolved", reason, 10)
    assert _result(taken(), PASS, left, checked("make", 0)).judged == (False, True)


def test_5_checks_of_every_kind_must_pass_on_the_work() -> None:
    kept = checked("make", 0, kind="pass_to_pass")
    asked = ("pytest -q", "make", "ruff")
    assert _outcome((DONE, CHANGED, CURED, kept, checked("ruff", 0)), checks=asked) == "solved"
    assert _outcome((DONE, CHANGED, CURED, kept, checked("ruff", 1)), checks=asked) == "unsolved"
    assert _outcome((DONE, CHANGED, CURED, kept), checks=asked) == "checks_error"


@pytest.mark.parametrize("end", [DONE, TURNS, REFUSED, SILENT])
def test_5_a_change_that_passes_its_checks_is_solved_however_the_agent_ended(end: AgentEnded) -> None:
    verdict = judge((end, CHANGED, PASS), checks=CHECKS, expect_change=True)
    assert verdict.outcome == "solved"
    assert (end.reason in verdict.reason) == (end is not DONE)


def test_5_a_change_that_passes_is_solved_although_the_model_failed_and_the_reason_says_so() -> None:
    verdict = judge((CHANGED, PASS), checks=CHECKS, expect_change=True, error=ModelError("overloaded"))
    assert verdict.outcome == "solved"
    assert "overloaded" in verdict.reason


def test_5_the_last_round_of_checks_decides() -> None:
    rounds = (DONE, CHANGED, checked("a", 1, round=0), DONE, CHANGED, checked("a", 0, round=1))
    assert _outcome(rounds) == "solved"


def test_5_an_answer_that_was_to_change_nothing_is_solved_when_the_checks_pass() -> None:
    assert _outcome((DONE, UNCHANGED, PASS), expect_change=False) == "solved"


def test_5_checks_that_passed_before_another_commit_do_not_count() -> None:
    assert _outcome((DONE, CHANGED, PASS, DONE, CHANGED)) == "checks_error"


@pytest.mark.parametrize("events", [(), (CHANGED,), (CHANGED, FAIL), (UNCHANGED,), (UNCHANGED, PASS)])
def test_6_a_failed_model_is_the_providers_error(events: Sequence[AnyEvent]) -> None:
    verdict = judge(events, checks=CHECKS, expect_change=True, error=ModelError("HTTP 529, 20 tries"))
    assert verdict == ("provider_error", "HTTP 529, 20 tries", 20)


def test_6_a_change_without_checks_is_no_success_when_the_model_failed() -> None:
    assert _outcome((CHANGED,), checks=(), error=ModelError("down")) == "provider_error"


@pytest.mark.parametrize("limit", ["limits.turns", "limits.seconds", "limits.cost_usd", "limits.output_tokens"])
@pytest.mark.parametrize(
    ("events", "checks"),
    [((CHANGED,), ()), ((UNCHANGED,), ()), ((CHANGED, FAIL), CHECKS), ((UNCHANGED, PASS), CHECKS), ((DENIED,), ())],
)
def test_7_a_reached_limit_is_named(limit: str, events: Sequence[AnyEvent], checks: Sequence[str]) -> None:
    verdict = judge((AgentEnded(reason=limit), *events), checks=checks, expect_change=True)
    assert (verdict.outcome, verdict.exit_code) == ("limit", 13)
    assert verdict.reason.startswith(f"{limit} reached; ")


def test_7_an_answer_cut_off_by_a_limit_is_not_solved() -> None:
    assert _outcome((TURNS, UNCHANGED, PASS), expect_change=False) == "limit"


def test_7_the_reason_says_what_came_out_what_failed_and_what_was_denied() -> None:
    verdict = judge((DENIED, TURNS, CHANGED, FAIL), checks=CHECKS, expect_change=True)
    assert verdict.reason == "limits.turns reached; what was done so far came out; 1 check failed; 1 call was denied"


@pytest.mark.parametrize(
    ("check", "how"),
    [
        (FAIL, "exit 1"),
        (checked("pytest -q", None), "was killed"),
        (checked("pytest -q", None, timed_out=True), "timed out"),
        (checked("pytest -q", 0, timed_out=True), "timed out"),
    ],
)
@pytest.mark.parametrize("end", [DONE, REFUSED, SILENT])
def test_8_a_failed_check_is_unsolved_and_named(end: AgentEnded, check: AnyEvent, how: str) -> None:
    verdict = judge((end, CHANGED, checked("ruff", 0), check), checks=("ruff", "pytest -q"), expect_change=True)
    assert verdict == ("unsolved", f"1 of 2 checks failed; first 'pytest -q': {how}", 10)


def test_8_checks_that_were_never_run_give_no_verdict() -> None:
    verdict = judge((DONE, CHANGED, PASS), checks=("pytest -q", "ruff"), expect_change=True)
    assert verdict == ("checks_error", "1 of 2 checks gave no verdict", 22)


@pytest.mark.parametrize("end", [DONE, REFUSED, SILENT])
def test_9_a_change_without_checks_is_changed(end: AgentEnded) -> None:
    verdict = judge((end, CHANGED), checks=(), expect_change=True)
    assert (verdict.outcome, verdict.exit_code) == ("changed", 0)
    assert (end.reason in verdict.reason) == (end is not DONE)


@pytest.mark.parametrize("expect_change", [True, False])
@pytest.mark.parametrize(("end", "word"), [(REFUSED, "refused"), (SILENT, "gave no answer")])
def test_10_a_refusal_without_a_change_is_no_change(end: AgentEnded, word: str, expect_change: bool) -> None:
    verdict = judge((DENIED, end, UNCHANGED), checks=(), expect_change=expect_change)
    assert verdict == ("no_change", f"nothing changed: the model {word}; 1 call was denied", 11)


@pytest.mark.parametrize("events", [(DONE, UNCHANGED), (DONE,), (DENIED, DONE, UNCHANGED)])
def test_11_no_change_is_solved_when_none_was_expected(events: Sequence[AnyEvent]) -> None:
    verdict = judge(events, checks=(), expect_change=False)
    assert (verdict.outcome, verdict.exit_code) == ("solved", 0)


def test_12_denied_calls_without_a_change_are_denied_and_the_first_is_named() -> None:
    verdict = judge((DENIED, DENIED, DONE, UNCHANGED), checks=CHECKS, expect_change=True)
    reason = (
        "nothing changed; 2 calls were denied; first Edit(/workspace/repo/a.py) by Bash(curl:*) (policies/ci.yaml:4)"
    )
    assert verdict == ("denied", reason, 12)


def test_12_what_a_person_denied_is_named_before_what_a_rule_did() -> None:
    asked = decided(4, call(4, "Bash", command="git push"), allowed=False)
    asked = asked.model_copy(update={"approval": "fix-1/1", "reason": "a person is asked; ana denied it: not now"})
    verdict = judge((DENIED, asked, DONE, UNCHANGED), checks=(), expect_change=True)
    reason = "nothing changed; 2 calls were denied; first Bash(git push): a person is asked; ana denied it: not now"
    assert verdict == ("denied", reason, 12)


def test_12_denied_calls_do_not_matter_when_the_work_was_done_all_the_same() -> None:
    assert _outcome((DENIED, DONE, CHANGED, PASS)) == "solved"
    assert _outcome((DENIED, DONE, CHANGED), checks=()) == "changed"


@pytest.mark.parametrize("events", [(DONE, UNCHANGED), (DONE,), (DONE, UNCHANGED, PASS)])
def test_13_nothing_changed_is_no_change_even_when_the_checks_pass(events: Sequence[AnyEvent]) -> None:
    assert judge(events, checks=CHECKS, expect_change=True) == ("no_change", "nothing changed", 11)


def test_a_reason_is_one_line() -> None:
    verdict = judge((DONE, CHANGED, checked("a\nb", 1)), checks=("a\nb",), expect_change=True)
    assert "\n" not in verdict.reason


# --- everything else


@pytest.fixture(scope="module")
def result() -> JobResult:
    return sample_result(sample_events())


def _finished(*events: AnyEvent, **ended: Any) -> tuple[AnyEvent, ...]:
    clock = Clock()
    end = JobEnded.model_validate({"outcome": "changed", "reason": "x"} | ended)
    for event in (JobStarted(job=job_facts()), *events, end):
        clock.add(event, after=1.0)
    return tuple(clock.events)


def _result(*events: AnyEvent, **ended: Any) -> JobResult:
    return compute_result(_finished(*events, **ended), transcript_hash="4" * 64)


def test_identity_and_limits_are_those_of_the_resolved_job(result: JobResult) -> None:
    facts = job_facts()
    assert (result.job, result.task, result.repo) == (facts["id"], facts["task"], facts["repo"])
    assert (result.base, result.model) == (facts["base"], facts["model"])
    assert result.limits is not None
    assert result.limits.turns == 60
    assert result.hashes == {"task": "1" * 64, "policy": "2" * 64, "transcript": "4" * 64}


def test_branch_commits_and_diff_are_those_taken_last(result: JobResult) -> None:
    assert result.branch == "claw/fix-slugify-20260504-093000-a1b2"
    assert (result.commit, result.commits) == ("3c" * 20, ("3c" * 20,))
    assert (result.diff.files, result.diff.insertions, result.diff.deletions) == (4, 18, 6)
    assert result.diff.paths[0] == "slugify/core.py"
    assert result.notes == ("sub/.git is a repository of its own; it was left out",)


def test_work_that_was_not_delivered_has_a_commit_but_no_branch() -> None:
    result = _result(taken())
    assert (result.branch, result.commit) == (None, "3c" * 20)
    assert _result(taken(), BranchDelivered(branch="claw/x", bundle=None)).branch == "claw/x"
    bundled = _result(taken(), BranchDelivered(branch="claw/x", bundle="claw.bundle"))
    assert (bundled.branch, bundled.bundle) == ("claw/x", "claw.bundle")


def test_checks_are_those_of_the_last_round(result: JobResult) -> None:
    assert [(check.command, check.passed) for check in result.checks] == [("pytest -q", True), ("ruff check .", True)]
    assert result.repair_rounds == 1


def test_checks_on_base_come_first_and_say_so() -> None:
    checks = _result(PROVEN, taken(), CURED).checks
    assert [(check.on, check.kind, check.passed) for check in checks] == [
        ("base", "fail_to_pass", False),
        ("work", "fail_to_pass", True),
    ]
    assert _result(taken(), CHEATED).checks[0].tampered == CHEATED.tampered


def test_a_job_that_goes_on_says_which_attempt_it_is_what_was_played_and_where_it_differed() -> None:
    result = _result(_resumed(1), _played("0.1"), Diverged(turn=2, what="another answer"), _reply("a", "0.1"))
    assert (result.attempt, result.played_replies, result.turns, result.diverged) == (2, 1, 2, (2,))
    first = _result(_reply("a", "0.1"))
    assert (first.attempt, first.played_replies, first.cost_doubtful_usd, first.diverged) == (1, 0, 0, ())


def test_cause_tree_title_and_source_are_in_the_result() -> None:
    resolved = {"title": "Last page dropped", "source": "issues.json:3", "prompt": "…"}
    events = [JobStarted(job=job_facts(resolved=resolved)), taken(tree="7e" * 20)]
    ended = JobEnded(outcome="sandbox_error", reason="x", cause="oom")
    clock = Clock()
    for event in (*events, ended):
        clock.add(event, after=1.0)
    result = compute_result(clock.events, transcript_hash="4" * 64)
    assert (result.title, result.source) == ("Last page dropped", "issues.json:3")
    assert (result.tree, result.cause) == ("7e" * 20, "oom")


def test_the_agents_snapshot_is_in_the_result_and_its_time_is_setup() -> None:
    used = SnapshotUsed(purpose="agent", key="5a" * 32, made=False, seconds=0.3)
    opened = SandboxOpened(purpose="agent", report=sandbox_report())
    of_checks = used.model_copy(update={"purpose": "checks", "key": "x"})
    events = _finished(opened, used, DONE, SandboxOpened(purpose="checks", report={}), of_checks, PASS)
    result = compute_result(events, transcript_hash="4" * 64)
    assert result.snapshot is not None
    assert (result.snapshot.key, result.snapshot.made) == ("5a" * 32, False)
    phases = ["end", "sandbox", "setup", "agent", "checks", "checks", "checks", "end"]
    assert [span.phase for span in spans(events)] == phases
    assert _result(taken()).snapshot is None


def test_claims_of_the_final_message_are_in_the_result(result: JobResult) -> None:
    assert [(claim.about, claim.holds) for claim in result.claims] == [("tests", True)]


@pytest.mark.parametrize(("exit_code", "timed_out"), [(1, False), (None, False), (0, True)])
def test_a_check_passes_only_with_exit_code_0_in_time(exit_code: int | None, timed_out: bool) -> None:
    assert not _result(taken(), checked("x", exit_code, timed_out=timed_out)).checks[0].passed


def test_calls_are_counted_per_tool_denied_ones_included(result: JobResult) -> None:
    assert result.tool_calls["Bash"] == 19
    assert sum(result.tool_calls.values()) == 29


def test_a_call_that_the_sandbox_did_not_survive_is_counted() -> None:
    use = call(1, "Bash", command="boom")
    assert _result(replied(1, use), decided(1, use)).tool_calls == {"Bash": 1}


def test_a_denial_says_what_was_asked_and_which_rule_said_no() -> None:
    (denial,) = _result(DENIED).denials
    assert (denial.turn, denial.tool, denial.subject) == (3, "Edit", "/workspace/repo/a.py")
    assert (denial.rule, denial.where) == ("Bash(curl:*)", "policies/ci.yaml:4")


def test_an_exit_code_that_was_given_wins_over_the_outcomes_own() -> None:
    assert _result(outcome="cancelled", reason="cancelled by SIGTERM", exit_code=143).exit_code == 143
    assert _result(outcome="cancelled", reason="cancelled by SIGINT").exit_code == 130


def test_the_agents_sandbox_is_the_one_in_the_result(result: JobResult) -> None:
    assert result.sandbox is not None
    assert result.sandbox.image_digest == "sha256:" + "ab" * 32
    assert [control.status for control in result.sandbox.controls].count("hard") == 9


def test_a_job_that_never_had_a_sandbox_has_none_in_its_result() -> None:
    result = _result(outcome="sandbox_error", reason="no engine answers")
    assert (result.sandbox, result.turns, result.usage, result.cost_usd) == (None, 0, Usage(), Decimal(0))


def test_the_phases_add_up_to_the_whole_time(result: JobResult) -> None:
    phases = {name: seconds for name, seconds in result.timings.items() if name not in ("model", "tools")}
    assert sum(phases.values()) == pytest.approx(result.seconds, abs=0.01)
    assert list(phases) == ["sandbox", "setup", "agent", "branch", "checks", "end"]
    assert result.timings["agent"] > result.timings["model"] + result.timings["tools"]


def test_setup_for_the_checks_is_time_of_the_checks() -> None:
    events = _finished(
        SandboxOpened(purpose="agent", report=sandbox_report()), DONE, SandboxOpened(purpose="checks", report={}), PASS
    )
    assert [span.phase for span in spans(events)] == ["end", "sandbox", "agent", "checks", "checks", "end"]


def test_a_reminder_is_no_setup() -> None:
    events = _finished(
        SandboxOpened(purpose="agent", report=sandbox_report()),
        AgentPrompted(text="task"),
        replied(1),
        AgentPrompted(text="2"),
    )
    assert [span.phase for span in spans(events)] == ["end", "sandbox", "setup", "agent", "agent", "end"]


def test_a_clock_that_is_set_back_gives_no_negative_time() -> None:
    events = list(_finished(DONE, taken()))
    events[2] = events[2].model_copy(update={"time": "2020-01-01T00:00:00Z"})
    assert all(span.end >= span.start for span in spans(events))


def test_waiting_for_a_person_is_a_part_of_the_agents_time_where_one_was_asked(result: JobResult) -> None:
    assert "approvals" not in result.timings
    asked = sample_result(guarded_events())
    assert asked.timings["approvals"] == 653
    assert asked.timings["agent"] > asked.timings["approvals"]


def test_preparing_containment_and_setups_network_are_time_of_setup() -> None:
    events = _finished(
        SandboxOpened(purpose="agent", report=sandbox_report()),
        tried("setup", "pypi.org"),
        contained(),
        AgentPrompted(text="task"),
        tried("agent", "pypi.org"),
        taken(),
        PASSED_GATE,
        SandboxOpened(purpose="checks", report={}),
        tried("setup", "pypi.org"),
        tried("checks", "pypi.org"),
    )
    phases = ["end", "sandbox", *["setup"] * 3, "agent", *["branch"] * 2, *["checks"] * 3, "end"]
    assert [span.phase for span in spans(events)] == phases


# --- what held the job


@pytest.fixture(scope="module")
def guarded() -> JobResult:
    return sample_result(guarded_events())


def test_approvals_say_what_was_asked_and_how_it_was_answered(guarded: JobResult) -> None:
    approvals = guarded.approvals
    assert (approvals.asked, approvals.allowed, approvals.denied) == (3, 1, 2)
    first, second, third = approvals.questions
    assert (first.id, first.turn, first.call) == ("bump-20260504-110000-c3d4/1", 1, "Bash(pip install -U requests)")
    assert (first.rule, first.where) == ("Bash(pip install:*)", "policies/ci.yaml:9")
    assert (first.allowed, first.scope, first.by, first.seconds, first.calls) == (True, "job", "ana", 41, 1)
    assert (second.allowed, second.reason, second.calls) == (False, "not from there", 0)
    assert third.by == "timeout"


def test_a_denial_by_a_person_names_its_approval(guarded: JobResult) -> None:
    assert [denial.approval for denial in guarded.denials] == [
        "bump-20260504-110000-c3d4/2",
        "bump-20260504-110000-c3d4/3",
    ]


def test_a_yes_for_the_job_counts_the_calls_that_it_let_through() -> None:
    asked = ApprovalAsked(id="1", turn=1, call="x", rule=None, where=None, reason="", expires_seconds=1)
    answered = ApprovalAnswered(id="1", allowed=True, scope="job", by="ana", seconds=1)
    uses = [decided(turn, call(turn, "Bash", command="x")).model_copy(update={"approval": "1"}) for turn in (1, 2, 3)]
    assert _result(asked, answered, *uses).approvals.questions[0].calls == 3


def test_a_question_that_the_job_did_not_live_to_see_answered_has_no_answer() -> None:
    asked = ApprovalAsked(id="1", turn=1, call="x", rule=None, where=None, reason="", expires_seconds=1)
    approvals = _result(asked, outcome="cancelled", reason="x").approvals
    assert (approvals.asked, approvals.allowed, approvals.denied) == (1, 0, 0)
    assert (approvals.questions[0].allowed, approvals.questions[0].scope) == (None, None)


def test_connections_are_summed_per_phase_host_and_port(guarded: JobResult) -> None:
    uses = {(use.phase, use.host): use for use in guarded.egress}
    assert list(uses) == [
        ("setup", "pypi.org"),
        ("setup", "files.pythonhosted.org"),
        ("agent", "pypi.org"),
        ("agent", "evil.example"),
    ]
    assert uses["setup", "pypi.org"].bytes_received == 1_250_000
    refused = uses["agent", "evil.example"]
    assert (refused.connections, refused.refused, refused.rule) == (0, 3, None)
    assert refused.reason == "host is not in the policy's egress list"


def test_what_ran_unread_is_listed_once() -> None:
    uses = [decided(turn, call(turn, "Bash", command="eval $X")) for turn in (1, 2)]
    marked = [use.model_copy(update={"unjudged": True, "subjects": ("Bash(eval $X)",)}) for use in uses]
    assert _result(*marked, decided(3, call(3, "Bash", command="ls"))).unjudged == ("Bash(eval $X)",)


def test_containment_is_what_was_done(guarded: JobResult) -> None:
    assert guarded.contained is not None
    assert (guarded.contained.landlock, guarded.contained.hidden) == (True, (".env",))
    assert guarded.contained.uncontained == ("Read(**/*.pem)",)


def test_the_gate_says_what_it_refused_or_that_it_let_pass(guarded: JobResult) -> None:
    assert guarded.gate is not None
    assert guarded.gate.violations == violations()
    passed = _result(taken(), PASSED_GATE).gate
    assert passed is not None
    assert passed.violations == ()


def test_what_did_not_happen_is_not_in_the_result(result: JobResult) -> None:
    assert (result.approvals.asked, result.egress, result.contained, result.gate) == (0, (), None, None)


def test_a_result_survives_its_json(result: JobResult) -> None:
    assert JobResult.model_validate_json(result.model_dump_json()) == result
    guarded = sample_result(guarded_events())
    assert JobResult.model_validate_json(guarded.model_dump_json()) == guarded


def test_money_is_a_string_of_digits_in_json() -> None:
    reply = replied(1, Text(text="x")).model_copy(update={"cost_usd": Decimal("1E-7")})
    assert json.loads(_result(reply).model_dump_json())["cost_usd"] == "0.0000001"


# --- the bill


def _reply(model: str, cost: str | None, *, output: int = 10, wasted: int = 0) -> ModelReplied:
    usage = Usage(output_tokens=output)
    reply = Reply(content=(), stop_reason="end_turn", usage=usage, model=model, wasted=Usage(input_tokens=wasted))
    amount = None if cost is None else Decimal(cost)
    return ModelReplied(turn=1, request_hash="0" * 64, reply=reply, cost_usd=amount, seconds=1.0)


def test_usage_and_cost_are_summed_per_model_and_in_total() -> None:
    bill = billed([_reply("a", "0.1"), _reply("b", "0.2"), _reply("a", "0.3", wasted=5)])
    assert [(model.model, model.replies, model.cost_usd) for model in bill.models] == [
        ("a", 2, Decimal("0.4")),
        ("b", 1, Decimal("0.2")),
    ]
    assert bill.models[0].usage == Usage(output_tokens=20, input_tokens=5)
    assert bill.models[0].wasted == Usage(input_tokens=5)
    assert (bill.replies, bill.cost_usd, bill.complete) == (3, Decimal("0.6"), True)
    assert bill.usage == Usage(output_tokens=30, input_tokens=5)


def test_an_unknown_price_makes_the_total_unknown() -> None:
    bill = billed([_reply("a", "0.1"), _reply("new", None)])
    assert (bill.cost_usd, bill.complete) == (None, False)
    assert [model.cost_usd for model in bill.models] == [Decimal("0.1"), None]


def test_a_failed_request_is_billed_too() -> None:
    failed = ModelFailed(turn=2, error="x", wasted=Usage(input_tokens=7), model="a", cost_usd=Decimal("0.5"))
    bill = billed([_reply("a", "0.1"), failed])
    assert (bill.cost_usd, bill.complete, bill.usage.input_tokens) == (Decimal("0.6"), True, 7)


def test_a_failed_request_of_unknown_price_makes_the_bill_incomplete() -> None:
    bill = billed([_reply("a", "0.1"), ModelFailed(turn=2, error="x", wasted=Usage(input_tokens=7))])
    assert (bill.cost_usd, bill.complete) == (Decimal("0.1"), False)


def test_a_failed_request_that_used_nothing_leaves_the_bill_complete() -> None:
    bill = billed([_reply("a", "0.1"), ModelFailed(turn=2, error="HTTP 529")])
    assert (bill.cost_usd, bill.complete) == (Decimal("0.1"), True)


def test_nothing_used_costs_nothing() -> None:
    assert billed([AgentPrompted(text="x")]) == (0, (), Usage(), Decimal(0), True, Decimal(0), 0)


def _resumed(*costs: str, **more: Any) -> Resumed:
    """After an attempt with a reply of 10 tokens for each of these costs."""
    return Resumed(
        attempt=2,
        transcript="5" * 64,
        replies=len(costs),
        replies_usage=Usage(output_tokens=10 * len(costs)),
        replies_cost_usd=sum(map(Decimal, costs), Decimal()),
        **more,
    )


def _played(cost: str) -> ModelReplied:
    event = _reply("a", cost)
    return event.model_copy(update={"reply": event.reply.model_copy(update={"played": True})})


def test_a_played_reply_counts_once() -> None:
    bill = billed([_resumed("0.1", "0.2"), _played("0.1"), _played("0.2"), _reply("a", "0.3")])
    assert (bill.replies, bill.played, bill.cost_usd, bill.complete) == (3, 2, Decimal("0.6"), True)


def test_what_earlier_attempts_used_besides_is_billed_and_named() -> None:
    used = _resumed("0.1", usage=Usage(output_tokens=7), cost_usd=Decimal("0.5"))
    bill = billed([used, _played("0.1")])
    assert (bill.cost_usd, bill.complete, bill.usage.output_tokens) == (Decimal("0.6"), True, 17)
    assert [(model.model, model.replies, model.cost_usd) for model in bill.models] == [
        ("earlier attempts", 0, Decimal("0.5")),
        ("a", 1, Decimal("0.1")),
    ]
    assert sum((model.cost_usd or Decimal() for model in bill.models), Decimal()) == bill.cost_usd


def test_while_something_is_doubtful_the_bill_is_not_complete() -> None:
    bill = billed([_resumed(cost_doubtful_usd=Decimal("0.02")), _reply("a", "0.1")])
    assert (bill.cost_usd, bill.doubtful_usd, bill.complete) == (Decimal("0.1"), Decimal("0.02"), False)


def test_what_tries_that_failed_may_have_cost_is_doubtful() -> None:
    tried = ModelRetried(
        turn=1,
        retried=Retried(attempt=1, cause="cut", status=None, wait_seconds=1),
        cost_doubtful_usd=Decimal("0.02"),
    )
    failed = ModelFailed(turn=2, error="cut", cost_doubtful_usd=Decimal("0.01"))
    bill = billed([tried, _reply("a", "0.1"), failed])
    assert (bill.cost_usd, bill.doubtful_usd, bill.complete) == (Decimal("0.1"), Decimal("0.03"), False)
    unknown = billed([_reply("a", "0.1"), failed.model_copy(update={"cost_doubtful_usd": None})])
    assert (unknown.doubtful_usd, unknown.complete) == (0, False)


def test_replies_that_are_paid_for_and_not_played_are_billed_all_the_same() -> None:
    bill = billed([_resumed("0.1", "0.2", "0.4"), _played("0.1")])
    assert (bill.cost_usd, bill.usage.output_tokens, bill.complete) == (Decimal("0.7"), 30, True)


def test_earlier_use_of_unknown_price_makes_the_total_unknown() -> None:
    bill = billed([_resumed(usage=Usage(output_tokens=1), cost_usd=None), _reply("a", "0.1")])
    assert (bill.cost_usd, bill.complete) == (None, False)
    assert billed([_resumed(cost_usd=None), _reply("a", "0.1")]).cost_usd == Decimal("0.1")


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        ({"command": "ls\n -la", "file_path": "x"}, "ls -la"),
        ({"old_string": "a", "file_path": "/a"}, "/a"),
        ({"pattern": "*.py"}, "*.py"),
        ({"command": 7}, '{"command": 7}'),
        ({}, "{}"),
    ],
)
def test_the_subject_of_a_call_is_its_most_telling_argument(arguments: dict[str, Any], subject: str) -> None:
    assert subject_of(call(1, "Any", **arguments)) == subject


def test_the_subject_of_a_call_is_short() -> None:
    assert len(subject_of(call(1, "Bash", command="x" * 10_000))) == 300


def test_a_decision_that_allows_is_no_denial() -> None:
    use = call(1, "Bash", command="ls")
    assert isinstance(decided(1, use), ToolDecided)
    assert _result(decided(1, use), ran(1, use, "x")).denials == ()
