"""The picture of a batch: what it says, and that it fits into any terminal whatever jobs say."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batch.base import BatchEvent
from runner.batch.board import Board
from runner.batch.picture import clock, rough
from runner.batch.standing import Pace
from runner.messages import Reply, Text, ToolUse, Usage
from runner.transcript import AnyEvent, ApprovalAsked, CheckRan, ModelReplied, SandboxOpened, ToolDecided, ToolRan
from tests.batch.pictures import drawn, happens, standing, started

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\u200b\x9b31m\r\n漢字 [bold]x[/] :smile:"


def replied(turn: int, text: str = "", *, cost: str | None = "0.5", played: bool = False) -> AnyEvent:
    reply = Reply(content=(Text(text=text),), model="m", stop_reason="end_turn", usage=Usage(), played=played)
    usd = None if cost is None else Decimal(cost)
    return ModelReplied(turn=turn, request_hash="", reply=reply, cost_usd=usd, seconds=1.0)


def calls(command: str) -> AnyEvent:
    call = ToolUse(id="t", name="Bash", input={"command": command})
    return ToolDecided(turn=1, call=call, allowed=True, rule=None, where=None, reason="")


# -- the batch


def test_it_says_how_far_the_batch_is_how_fast_and_when_it_will_end() -> None:
    pace = Pace()
    pace.note(100, 0.0)
    pace.note(184, 300.0)
    now = standing({"solved": 150, "unsolved": 34}, running=4, queued=312)
    first, bar, counts, *_ = drawn(Board(), now, pace=pace)
    assert first == "fix-issues-20261121-9f3a         12:04 · 184 of 500 jobs · 16.8/min · ETA 19 min"
    assert (len(bar), bar.count("━")) == (80, 29)
    assert counts == "solved 150 · unsolved 34 · 4 running · 312 queued"


def test_nothing_is_said_of_the_end_before_something_has_ended() -> None:
    pace = Pace()
    pace.note(0, 0.0)
    pace.note(0, 60.0)
    assert drawn(Board(), standing(running=4), pace=pace)[0].endswith("12:04 · 0 of 4 jobs")


def test_the_pace_is_that_of_the_last_minutes() -> None:
    pace = Pace()
    for second in range(0, 7200, 10):
        pace.note(min(second, 3600), second)
    assert pace.per_minute() is None
    pace.note(3610, 7210.0)
    assert pace.per_minute() == pytest.approx(1.0, rel=0.05)


def test_money_is_shown_against_its_cap() -> None:
    now = standing(running=1, spent=12_340_000, reserved=1_200_000, doubtful=10_000, cap=50_000_000)
    line = next(line for line in drawn(Board(), now) if line.startswith("$"))
    assert line.startswith("$12.34 of $50.00 · $1.20 set aside · $0.0100 in doubt  ━")
    assert "$12.34" in drawn(Board(), standing(running=1, spent=12_340_000))[3]


def test_a_change_of_pace_and_a_stop_are_said() -> None:
    board = Board()
    board.see(BatchEvent(kind="slowed", time=9e9, text="slowed down by the provider: 8 -> 4 requests at a time"))
    board.notice = "finishing 4 running jobs; ^C again leaves them half-way"
    lines = drawn(board, standing(running=4))
    assert "slowed down by the provider: 8 -> 4 requests at a time" in lines
    assert board.notice in lines


# -- its jobs


def test_a_job_has_its_title_and_what_it_last_did_where_there_is_room() -> None:
    board = Board()
    started(board, "fix-1", title="The last page is dropped", ago=124.2)
    happens(board, "fix-1", replied(1), replied(2, cost="0.25"), calls("pytest -q"))
    *_, head, row, last = drawn(board, standing(running=1))
    assert head.split() == ["job", "state", "turn", "cost", "time", "title"]
    assert row.split(maxsplit=5) == ["fix-1", "running", "2", "$0.7500", "2:04", "The last page is dropped"]
    assert last == "  Bash(pytest -q)"


def test_a_job_has_one_line_where_there_is_less_room() -> None:
    board = Board()
    for number in range(8):
        started(board, f"fix-{number}", title="x", ago=100 - number)
        happens(board, f"fix-{number}", calls(f"make {number}"))
    *_, head, first = drawn(board, standing(running=8))[:-7]
    assert head.endswith("last")
    assert first.endswith("  Bash(make 0)")


def test_of_more_jobs_than_fit_those_are_shown_that_take_longest() -> None:
    board = Board()
    for number in range(5_000):
        started(board, f"fix-{number}", ago=10_000 - number)
        happens(board, f"fix-{number}", calls("make"))
    lines = drawn(board, standing(running=5_000))
    assert [line.split()[0] for line in lines if line.startswith("fix-")][1:3] == ["fix-0", "fix-1"]
    assert lines[-1].startswith("and 4,98")


def test_what_is_not_worth_a_line_does_not_hide_what_is() -> None:
    board = Board()
    started(board, "fix-1")
    ran = ToolRan(turn=1, tool_use_id="t", name="Bash", ran=True, content="ok", is_error=False, seconds=0.1)
    happens(board, "fix-1", calls("make"), ran)
    assert drawn(board, standing(running=1))[-1] == "  Bash(make)"
    happens(board, "fix-1", ran)
    assert drawn(board, standing(running=1))[-1] == "  Bash(make)"


@pytest.mark.parametrize(
    ("event", "phase"),
    [
        (SandboxOpened(purpose="agent", report={"engine": "podman", "image": "x"}), "starting"),
        (replied(1, played=True), "playing"),
        (replied(1), "running"),
        (ApprovalAsked(id="a/1", turn=1, call="x", rule=None, where=None, reason="", expires_seconds=9), "asks"),
        (CheckRan(round=0, command="x", exit_code=0, timed_out=False, seconds=1, output=""), "checking"),
    ],
)
def test_it_is_seen_what_a_job_is_at(event: AnyEvent, phase: str) -> None:
    board = Board()
    started(board, "fix-1")
    happens(board, "fix-1", event)
    assert drawn(board, standing(running=1))[-2].split()[1] == phase


def test_an_unknown_cost_is_not_taken_for_a_sum() -> None:
    board = Board()
    started(board, "fix-1")
    happens(board, "fix-1", replied(1), replied(2, cost=None))
    assert "unknown" in drawn(board, standing(running=1))[-2]


def test_what_an_attempt_that_was_given_up_still_says_is_not_shown() -> None:
    board = Board()
    started(board, "fix-1", attempt=2)
    happens(board, "fix-1", calls("old"), attempt=1)
    assert "old" not in "\n".join(drawn(board, standing(running=1)))
    assert "fix-1 #2" in drawn(board, standing(running=1))[-2]


def test_a_job_that_ended_is_gone_from_the_picture() -> None:
    for kind in ("job_ended", "job_retried", "job_left"):
        board = Board()
        started(board, "fix-1")
        board.see(BatchEvent(kind=kind, time=1.0, job="fix-1", attempt=1))
        assert board.working() == 0
        assert [event.kind for event in board.news()] == ["job_started", kind]
        assert board.news() == []


# -- any terminal, any text


@pytest.mark.parametrize("height", [4, 10, 24])
@pytest.mark.parametrize("width", [20, 40, 59, 80, 200])
def test_strangers_text_fits_and_does_nothing(width: int, height: int) -> None:
    board = Board()
    for number in range(3):
        started(board, f"fix-{number}", title=HOSTILE * 5)
        happens(board, f"fix-{number}", replied(1, HOSTILE * 50), calls(HOSTILE))
    board.see(BatchEvent(kind="slowed", time=9e9, text=HOSTILE))
    now = standing({"solved": 1, "provider_error": 2}, running=3, queued=7, spent=1, cap=2)
    shown = "".join(drawn(board, now, width=width, height=height))
    assert not set(shown) & set("\x1b\x07\u202e\u200b\x9b\r\n")


@given(st.text(max_size=60), st.text(max_size=60), st.integers(20, 100))
def test_no_text_breaks_the_rows(title: str, command: str, width: int) -> None:
    board = Board()
    started(board, "fix-1", title=title)
    happens(board, "fix-1", calls(command))
    shown = "".join(drawn(board, standing(running=1), width=width))
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_times_are_short() -> None:
    assert [clock(seconds) for seconds in (0, 59.9, 124, 3725)] == ["0:00", "0:59", "2:04", "1:02:05"]
    assert [rough(seconds) for seconds in (1, 42, 89, 1_260, 7_620)] == ["5 s", "40 s", "1 min", "21 min", "2 h 07 min"]
