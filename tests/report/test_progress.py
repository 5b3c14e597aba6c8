from __future__ import annotations

from pathlib import Path

import pytest

from runner.report.progress import WIDTH, progress_line
from runner.transcript import AnyEvent, ApprovalAsked, CheckRan, GateRan, JobEnded
from tests.report.sample import HOSTILE, call, decided, guarded_events, sample_events, tried


def test_no_line_is_wider_than_a_terminal_or_acts_on_it() -> None:
    lines = [line for event in sample_events() if (line := progress_line(event)) is not None]
    assert len(lines) > 10
    assert max(map(len, lines)) <= WIDTH
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("exit_code", "timed_out", "word"), [(0, False, "passed"), (1, False, "failed (exit 1)"), (None, True, "timed out")]
)
def test_a_check_says_how_it_went(exit_code: int | None, timed_out: bool, word: str) -> None:
    check = CheckRan(round=0, command="make", exit_code=exit_code, timed_out=timed_out, seconds=1.0, output="")
    assert progress_line(check) == f"check    {word} in 1.0 s: make"


def test_hostile_names_stay_text() -> None:
    check = CheckRan(round=0, command="x\x1b[31m\u202ey", exit_code=0, timed_out=False, seconds=1.0, output="")
    line = progress_line(check)
    assert line is not None
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_the_end_is_left_to_the_summary() -> None:
    assert progress_line(JobEnded(outcome="solved", reason="")) is None


def _lines(*events: AnyEvent) -> list[str]:
    return [line for event in events if (line := progress_line(event)) is not None]


def test_a_question_says_how_to_answer_it() -> None:
    line = next(line for line in _lines(*guarded_events()) if line.startswith("asks"))
    assert line == (
        "asks     for 10 min: Bash(pip install -U requests)\n"
        "         claw-runner approvals allow bump-20260504-110000-c3d4/1"
    )


def test_the_command_that_answers_names_the_folder_of_the_jobs_and_is_never_cut() -> None:
    asked = ApprovalAsked(id="x" * 90, turn=1, call="y" * 90, rule=None, where=None, reason="", expires_seconds=1)
    line = progress_line(asked, runs=Path("my runs"))
    assert line is not None
    first, second = line.splitlines()
    assert len(first) == WIDTH
    assert second.strip() == f"claw-runner approvals allow {'x' * 90} --runs 'my runs'"


def test_a_script_that_is_asked_about_shows_where_its_lines_end() -> None:
    asked = ApprovalAsked(id="1", turn=1, call="Bash(a # b\nc)", rule=None, where=None, reason="", expires_seconds=1)
    assert str(progress_line(asked)).startswith("asks     for 1.0 s: Bash(a # b ⏎ c)\n")


def test_a_command_cannot_hide_in_what_a_terminal_would_swallow() -> None:
    hidden = "true \x1b]0; ; rm -rf src ; \x07"
    asked = ApprovalAsked(id="1", turn=1, call=hidden, rule=None, where=None, reason="", expires_seconds=1)
    for event in (asked, decided(1, call(1, "Bash", command=hidden))):
        assert "rm -rf src" in str(progress_line(event))


def test_answers_refused_connections_and_the_gate_are_told_and_what_passes_is_not() -> None:
    lines = _lines(*guarded_events())
    assert "answer   allowed for this job, ana" in lines
    assert "answer   denied, ana: not from there" in lines
    assert "  denied Bash(git push)" in lines
    assert lines.count("refused  evil.example:443: host is not in the policy's egress list") == 3
    assert "gate     3 violations: .github/workflows/ci.yml CI workflows are protected" in lines
    assert _lines(tried("agent", "pypi.org"), GateRan(violations=())) == []


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_hostile_in_them_acts_on_the_terminal(hostile: str) -> None:
    lines = "\n".join(_lines(*guarded_events(hostile))).splitlines()
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= WIDTH
