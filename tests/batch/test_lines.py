"""A batch's events as lines: for people, and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.batch.base import BatchEvent, Ended
from runner.batch.lines import json_line, line_of
from runner.transcript import ApprovalAsked, ToolRan
from tests.batch.test_picture import HOSTILE

SOLVED = Ended(outcome="solved", reason="all checks pass", branch="claw/fix-1", cost_micro_usd=24_600, seconds=124)
FAILED = Ended(outcome="unsolved", reason="check failed", cost_micro_usd=None, seconds=3725)
ASKED = ApprovalAsked(id="fix-1/1", turn=1, call="Bash(x)", rule=None, where=None, reason="", expires_seconds=300)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (BatchEvent(kind="job_started", time=1.0, job="fix-1", attempt=1, text="Last page"), "started fix-1 Last page"),
        (
            BatchEvent(kind="job_started", time=1.0, job="fix-1", attempt=2, text="Last page"),
            "started fix-1 attempt 2: Last page",
        ),
        (
            BatchEvent(kind="job_ended", time=1.0, job="fix-1", ended=SOLVED, text="all checks pass"),
            "solved fix-1 claw/fix-1 (2:04, $0.0246)",
        ),
        (
            BatchEvent(kind="job_ended", time=1.0, job="fix-1", ended=FAILED, text="check failed"),
            "unsolved fix-1 check failed (1:02:05, unknown)",
        ),
        (
            BatchEvent(kind="job_retried", time=1.0, job="fix-1", text="the container went away", wait_seconds=30),
            "retry fix-1 in 30.0 s: the container went away",
        ),
        (BatchEvent(kind="job_left", time=1.0, job="fix-1", text="left half-way"), "left fix-1 left half-way"),
        (BatchEvent(kind="slowed", time=1.0, text="8 -> 4 requests"), "pace 8 -> 4 requests"),
    ],
)
def test_what_happens_to_a_job_is_one_line(event: BatchEvent, line: str) -> None:
    assert " ".join((line_of(event) or "").split()) == line


def test_a_question_to_a_person_brings_the_command_that_answers_it() -> None:
    event = BatchEvent(kind="job_event", time=1.0, job="fix-1", attempt=1, event=ASKED)
    first, command = (line_of(event, runs=Path("elsewhere")) or "").split("\n")
    assert " ".join(first.split()) == "asks fix-1 for 5 min: Bash(x)"
    assert command.strip() == "claw-runner approvals allow fix-1/1 --runs elsewhere"


def test_a_bug_is_shown_with_its_traceback() -> None:
    event = BatchEvent(kind="note", time=1.0, job="fix-1", text="Traceback:\n  File x\nZeroDivisionError: by zero\n")
    first, *rest = (line_of(event) or "").splitlines()
    assert first.split() == ["note", "fix-1", "ZeroDivisionError:", "by", "zero"]
    assert rest == ["  Traceback:", "  File x"]


def test_what_only_concerns_the_job_itself_is_no_line() -> None:
    ran = ToolRan(turn=1, tool_use_id="t", name="Bash", ran=True, content="x", is_error=True, seconds=0)
    assert line_of(BatchEvent(kind="job_event", time=1.0, job="fix-1", event=ran)) is None
    assert line_of(BatchEvent(kind="batch_started", time=1.0, text="x")) is None


@pytest.mark.parametrize("width", [30, 80])
def test_strangers_text_is_one_line_that_does_nothing(width: int) -> None:
    for kind in ("job_started", "job_ended", "job_retried", "slowed"):
        event = BatchEvent(kind=kind, time=1.0, job="fix-1", ended=FAILED, text=HOSTILE * 9)
        line = line_of(event, width=width) or ""
        assert len(line) <= width
        assert not set(line) & set("\x1b\x07\u202e\u200b\x9b\r\n")


def test_json_has_what_the_event_has_on_one_line() -> None:
    event = BatchEvent(kind="job_ended", time=1.5, job="fix-1", attempt=1, ended=FAILED, text=HOSTILE)
    line = json_line(event, exit_code=0)
    assert line.isascii()
    assert line.isprintable()
    read = json.loads(line)
    assert (read["kind"], read["job"], read["text"], read["exit_code"]) == ("job_ended", "fix-1", HOSTILE, 0)
    assert read["ended"]["outcome"] == "unsolved"
    assert "event" not in read


def test_a_transcripts_event_is_in_its_json_as_the_transcript_has_it() -> None:
    read = json.loads(json_line(BatchEvent(kind="job_event", time=1.5, job="fix-1", attempt=1, event=ASKED)))
    assert read["event"] == ASKED.model_dump(mode="json", exclude={"seq", "time", "prev"})


def test_json_is_no_command_to_githubs_runner() -> None:
    line = json_line(BatchEvent(kind="note", time=1.0, text="##[error]x\x7f ::error::y"))
    assert "##[" not in line
    assert json.loads(line)["text"] == "##[error]x\x7f ::error::y"
