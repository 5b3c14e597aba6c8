"""What is said when a batch's runner goes away: at 80 columns, the worst first, and what to do next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from runner.batch.base import Counts, Ended, JobRow, Totals
from runner.batch.scheduler import Summary, Why
from runner.batch.summary import summary_lines
from runner.errors import Outcome
from tests.batch.stored import planned, spec
from tests.batch.test_picture import HOSTILE


def row(number: int, outcome: Outcome, reason: str) -> JobRow:
    return JobRow(
        number=number,
        planned=planned(number),
        state="ended",
        attempt=1,
        fresh=False,
        fence=1,
        owner="",
        lease_until=0,
        not_before=0,
        tries=0,
        ended=Ended(outcome=outcome, reason=reason),
    )


def said(
    outcomes: dict[Outcome, int],
    failed: list[JobRow],
    *,
    why: Why = "done",
    left: int = 0,
    width: int = 80,
    **more: Any,
) -> list[str]:
    states = {"ended": sum(outcomes.values())} | ({"queued": left} if left else {})
    totals = Totals(**{"spent": 0, "reserved": 0, "doubtful": 0, "tokens": 0, "turns": 0} | more)
    summary = Summary(
        why=why,
        counts=Counts(states=states, outcomes=outcomes),  # type: ignore[arg-type]
        left=left,
        bugs=0,
        totals=totals,
        seconds=4_325,
        exit_code=0,
    )
    about = replace(spec(cost_usd=50.0), id="fix-issues-20261121-9f3a")
    found = summary_lines(about, summary, failed, typed="fix-issues-20261121-9f3a", report=Path("r.html"), width=width)
    return [line.plain for line in found]


def test_it_says_what_came_of_the_jobs_what_it_cost_and_where_the_report_is() -> None:
    lines = said({"solved": 312, "changed": 8}, [], spent=48_200_000, doubtful=120_000)
    assert lines[0] == "DONE  320 of 320 jobs ended  fix-issues-20261121-9f3a"
    assert lines[2:] == [
        "solved              312",
        "changed               8",
        "",
        "cost    $48.20 of $50.00 · $0.1200 in doubt",
        "time    1:12:05",
        "report  r.html",
    ]


def test_failures_stand_first_that_say_nothing_of_the_work() -> None:
    failed = [row(1, "unsolved", "check failed"), row(2, "limit", "limits.turns"), row(3, "sandbox_error", "gone")]
    lines = said({"unsolved": 1, "limit": 1, "sandbox_error": 1}, failed)
    named = [line.split()[:2] for line in lines if "  job-" in line]
    assert named == [["sandbox_error", "job-3"], ["limit", "job-2"], ["unsolved", "job-1"]]
    assert lines[-1] == "next    claw-runner retry fix-issues-20261121-9f3a --outcome sandbox_error"


def test_of_many_failures_the_first_are_named_and_the_rest_counted() -> None:
    lines = said({"unsolved": 300}, [row(number, "unsolved", "check failed") for number in range(300)])
    assert sum("  job-" in line for line in lines) == 10
    assert "and 290 more, all of them in the report" in lines


def test_a_batch_that_was_stopped_says_how_to_go_on() -> None:
    lines = said({"solved": 3}, [], why="stopped", left=497)
    assert lines[0].startswith("STOPPED  3 of 500 jobs ended")
    assert "not ended           497" in lines
    assert lines[-1] == "next    claw-runner resume fix-issues-20261121-9f3a"


def test_a_batch_whose_money_is_spent_asks_for_more() -> None:
    lines = said({"solved": 3}, [], why="batch.cost_usd", left=497, spent=49_990_000)
    assert lines[0].startswith("OUT OF MONEY  3 of 500 jobs ended")
    assert lines[-1] == "next    claw-runner resume fix-issues-20261121-9f3a --cost-usd MORE"


def test_reasons_are_shown_shortened_and_do_nothing() -> None:
    for width in (40, 80):
        lines = said({"unsolved": 1}, [row(1, "unsolved", HOSTILE * 20)], width=width)
        reason = next(line for line in lines if "  job-1" in line)
        assert cell_len(reason) <= width
        assert not set("".join(lines)) & set("\x1b\x07\u202e\u200b\x9b\r\n")
