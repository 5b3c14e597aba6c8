from __future__ import annotations

import pytest

from runner.report.progress import WIDTH, progress_line
from runner.transcript import CheckRan, JobEnded
from tests.report.sample import sample_events


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
