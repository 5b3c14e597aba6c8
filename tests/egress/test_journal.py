"""What is written down about connections is bounded, and says so."""

from __future__ import annotations

from runner.egress.journal import MAX_LINES, Journal
from runner.egress.meter import MAX_EVENTS, Meter
from runner.transcript import AnyEvent, EgressTried


def refused(host: str) -> EgressTried:
    return EgressTried(phase="agent", host=host, port=443, address=None, allowed=False, rule=None, reason="not listed")


def test_a_loop_of_refused_connections_does_not_fill_the_transcript() -> None:
    events: list[AnyEvent] = []
    journal = Journal(events.append, Meter(1))
    for number in range(MAX_EVENTS + 500):
        journal.record(refused(f"host{number}.test"))
    assert len(events) == MAX_EVENTS
    journal.close()
    last = events[-1]
    assert isinstance(last, EgressTried)
    assert last.host == f"host{MAX_EVENTS + 499}.test"
    assert last.reason == "not listed; it stands for 500 connections, too many to be listed one by one"
    journal.close()
    journal.record(refused("late.test"))
    assert len(events) == MAX_EVENTS + 1


def test_the_events_of_a_job_are_bounded_over_all_its_journals() -> None:
    events: list[AnyEvent] = []
    meter = Meter(1)
    for journal in (Journal(events.append, meter), Journal(events.append, meter)):
        for number in range(MAX_EVENTS):
            journal.record(refused(f"host{number}.test"))
        journal.close()
    assert len(events) == MAX_EVENTS + 1


def test_the_model_gets_each_line_once_and_not_too_many() -> None:
    journal = Journal(lambda event: None, Meter(1))
    for number in range(2 * MAX_LINES):
        journal.tell(f"line {number % 30}")
    lines = journal.take_lines()
    assert lines == (*(f"line {number}" for number in range(MAX_LINES)), "… and 10 more")
    assert journal.take_lines() == ()
