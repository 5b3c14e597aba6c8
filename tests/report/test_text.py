"""The summary on the terminal: complete, narrow, and harmless."""

from __future__ import annotations

import io
import os
import pty
from decimal import Decimal
from pathlib import Path

import pytest

from runner.report import print_summary, summary
from runner.result import Claim, JobResult
from runner.transcript import ApprovalAnswered
from tests.report.sample import HOSTILE, guarded_events, sample_events, sample_result

FOLDER = Path("runs/fix-slugify-20260504-093000-a1b2")


@pytest.fixture(scope="module")
def result() -> JobResult:
    return sample_result(sample_events())


def test_it_says_how_the_job_ended_and_where_everything_is(result: JobResult) -> None:
    text = summary(result, FOLDER)
    for part in (
        "SOLVED  fix-slugify: all 2 checks passed",
        "claw/fix-slugify-20260504-093000-a1b2 (3c3c3c3c3c3c)",
        "4 files, +18 -6",
        "pass  pytest -q",
        "31 of 60, 29 tool calls",
        "3 denied",
        "547.3k read (523.9k from the cache), 9.2k written",
        "$0.3823 of $2.00  claude-sonnet-4-6",
        "3 min 05 s",
        "runs/fix-slugify-20260504-093000-a1b2/report.html",
    ):
        assert part in text


@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_line_is_wider_than_asked(result: JobResult, width: int) -> None:
    wide = result.model_copy(update={"reason": "word " * 100, "branch": "claw/" + "x" * 300})
    assert max(map(len, summary(wide, FOLDER, width=width).splitlines())) <= width


def test_it_is_plain_when_nobody_looks(result: JobResult) -> None:
    stream = io.StringIO()
    print_summary(result, FOLDER, stream)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue() == summary(result, FOLDER)


def test_it_is_coloured_on_a_terminal(result: JobResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;32mSOLVED" in _on_terminal(result)


def test_no_color_is_respected(result: JobResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in _on_terminal(result)


def _on_terminal(result: JobResult) -> str:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        print_summary(result, FOLDER, terminal)
        terminal.flush()
        shown = os.read(master, 100_000).decode()
    os.close(master)
    return shown


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("hostile", [*HOSTILE, "[bold red]markup[/] :skull: [link=x]y[/link]", "a\nb\rc"])
def test_nothing_in_a_result_acts_on_the_terminal(result: JobResult, hostile: str, colours: bool) -> None:
    strings = {name: hostile for name in ("job", "task", "reason", "branch", "model")}
    check = result.checks[0].model_copy(update={"command": hostile})
    denial = result.denials[0].model_copy(update={"tool": hostile, "subject": hostile})
    lists = {"checks": (check,), "denials": (denial,), "notes": (hostile,), "tool_calls": {hostile: 1}}
    diff = result.diff.model_copy(update={"paths": (hostile,)})
    text = summary(result.model_copy(update=strings | lists | {"diff": diff}), FOLDER, colours=colours, width=100)
    ours = {"\x1b[1;32m", "\x1b[0m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[1m"} if colours else set()
    for sequence in ours:
        text = text.replace(sequence, "")
    assert not set(text) & set("\x1b\x9b\x07\x08\x00\r\u202e\u2066\u200b")
    if hostile.startswith("[bold"):
        assert "[bold red]markup[/] :skull:" in text


def test_it_says_what_the_gate_refused_what_was_asked_and_what_was_not_held() -> None:
    text = summary(sample_result(guarded_events()), FOLDER)
    for part in (
        "DENIED  bump: the gate refused the diff: .github/workflows/ci.yml",
        "none; the work is kept in patch.diff",
        "gate      .github/workflows/ci.yml: CI workflows are protected\n",
        "gate      docs/a.md: the policy denies it [Edit(docs/**)] (policies/ci.yaml:12)\n",
        "4 of 60, 3 tool calls (Bash 3), 2 denied\n",
        "asked     Bash(pip install -U requests): allowed for the job, ana\n",
        "asked     Bash(git push): denied, timeout: nobody answered within 600 s\n",
        "network   3 connections to 2 hosts, 6.3 kB out, 9.7 MB in\n",
        "refused   evil.example:443 (3 times), host is not in the policy's egress list\n",
        "waiting for a person 10 min",
        "controls  not enforced here: swap\n",
        "contain   1 rule decided but not contained; see report.html\n",
    ):
        assert part in text


def test_a_question_without_an_answer_is_no_denial() -> None:
    events = [event for event in guarded_events() if not isinstance(event, ApprovalAnswered)]
    text = summary(sample_result(events), FOLDER)
    assert "asked     Bash(git push): the job ended before the answer\n" in text


def test_it_says_that_landlock_is_missing() -> None:
    guarded = sample_result(guarded_events())
    assert guarded.contained is not None
    without = guarded.contained.model_copy(update={"landlock": False})
    text = summary(guarded.model_copy(update={"contained": without}), FOLDER)
    assert "contain   no Landlock here: commands are not held to the path rules\n" in text


def test_it_counts_commands_that_a_blacklist_let_pass_unread(result: JobResult) -> None:
    text = summary(result.model_copy(update={"unjudged": ("eval $X",)}), FOLDER)
    assert "unjudged  1 command ran that the policy could not read; see report.html\n" in text


@pytest.mark.parametrize("width", [40, 80, 100])
@pytest.mark.parametrize("hostile", [*HOSTILE, "a\nb\rc", "[bold red]markup[/]", "word " * 100])
def test_nothing_that_was_asked_tried_or_refused_acts_on_the_terminal(hostile: str, width: int) -> None:
    text = summary(sample_result(guarded_events(hostile)), FOLDER, width=width)
    assert not set(text) & set("\x1b\x9b\x07\x08\x00\r\u202e\u2066\u200b")
    assert max(map(len, text.splitlines())) <= width


def test_what_is_many_is_counted_not_listed(result: JobResult) -> None:
    paths = tuple(f"file{n}" for n in range(500))
    many: dict[str, object] = {
        "diff": result.diff.model_copy(update={"paths": paths}),
        "checks": result.checks * 50,
        "denials": tuple(result.denials[0].model_copy(update={"subject": str(n)}) for n in range(900)),
        "tool_calls": {f"tool{n}": 1 for n in range(900)},
        "notes": tuple(map(str, range(900))),
    }
    guarded = sample_result(guarded_events())
    assert guarded.gate is not None
    many["gate"] = guarded.gate.model_copy(update={"violations": guarded.gate.violations * 300})
    many["approvals"] = guarded.approvals.model_copy(update={"questions": guarded.approvals.questions * 300})
    many["egress"] = guarded.egress * 300
    assert len(summary(result.model_copy(update=many), FOLDER).splitlines()) < 80
    assert "and 892 more violations" in summary(result.model_copy(update=many), FOLDER)
    assert "and 492 more" in summary(result.model_copy(update=many), FOLDER)


def test_it_says_where_work_without_a_branch_is(result: JobResult) -> None:
    assert "none; the work is kept in patch.diff" in summary(result.model_copy(update={"branch": None}), FOLDER)
    assert "a1b2 (3c3c3c3c3c3c) in work.bundle" in summary(result.model_copy(update={"bundle": "work.bundle"}), FOLDER)


def test_an_unknown_cost_is_called_unknown(result: JobResult) -> None:
    unknown = result.model_copy(update={"cost_usd": None, "cost_complete": False})
    assert "unknown of $2.00" in summary(unknown, FOLDER)


def test_a_job_that_came_to_nothing_has_a_summary_too(result: JobResult) -> None:
    times = {"started_at": result.started_at, "ended_at": result.ended_at, "seconds": 0.01}
    ending = {"outcome": "sandbox_error", "reason": "no engine answers", "exit_code": 21, "sandbox": None}
    work = {"repo": ".", "base": "0" * 40, "branch": None, "commit": None, "model": "m", "cost_usd": None}
    nothing = JobResult.model_validate({"job": "j", "task": "t"} | times | ending | work)
    text = summary(nothing, FOLDER)
    assert "SANDBOX ERROR  t: no engine answers" in text
    assert "nothing changed" in text


def test_a_claim_that_does_not_hold_is_told_and_one_that_holds_is_not(result: JobResult) -> None:
    wrong = Claim(text="All tests pass.", about="tests", observed="turn 3: pytest → exit 1", holds=False)
    text = summary(result.model_copy(update={"claims": (wrong,) * 5}), FOLDER)
    assert "claimed   'All tests pass.'\n          observed: turn 3: pytest → exit 1" in text
    assert "and 2 more claims that did not hold" in text
    assert "claimed" not in summary(
        result.model_copy(update={"claims": (wrong.model_copy(update={"holds": True}),)}), FOLDER
    )


def test_a_job_that_goes_on_says_what_was_played(result: JobResult) -> None:
    facts = {"attempt": 2, "played_replies": 7, "diverged": (3, 5), "cost_doubtful_usd": Decimal("0.01")}
    text = summary(result.model_copy(update=facts), FOLDER, width=100)
    assert "attempt   2, 7 turns played from earlier ones, not paid again; it differed from them in turn 3, 5" in text
    assert ", and at most $0.0100 that is doubtful" in text


def test_checks_on_base_and_tampered_ones_say_so(result: JobResult) -> None:
    base = result.checks[0].model_copy(update={"kind": "fail_to_pass", "on": "base", "passed": False, "exit_code": 1})
    work = base.model_copy(update={"on": "work", "exit_code": 0, "tampered": "it skips itself"})
    text = summary(result.model_copy(update={"checks": (base, work)}), FOLDER)
    assert "FAIL  pytest -q  (fail_to_pass, on base, exit 1, 2.2 s)" in text
    assert "tampered: it skips itself" in text
