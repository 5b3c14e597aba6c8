"""Looking on while a batch runs: at a terminal, in a log, as a machine; and what happens when nobody looks any more."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from runner.batch import live
from runner.batch.base import BatchEvent, StoreError
from runner.batch.live import Way, followed, way_to_follow
from runner.batch.standing import Standing
from tests.batch.pictures import happens, standing, started
from tests.batch.test_lines import FAILED, SOLVED
from tests.batch.test_picture import HOSTILE, calls

PATIENCE = 60.0


def ended(job: str, *, good: bool = True) -> BatchEvent:
    result = SOLVED if good else FAILED
    return BatchEvent(kind="job_ended", time=time.time(), job=job, attempt=1, ended=result, text=result.reason)


def until(stream: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while text not in stream.getvalue():
        assert time.monotonic() < deadline, stream.getvalue()
        time.sleep(0.01)


class Streams:
    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()


@contextmanager
def looking(way: Way, now: Standing | None = None) -> Iterator[tuple[live.Followed, Streams]]:
    streams = Streams()
    shown = now or standing(queued=3)
    with followed(way, name="b", look=lambda: shown, out=streams.out, err=streams.err) as view:
        yield view, streams


# -- which way


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("term", "stream", "options", "way"),
    [
        ("xterm-256color", Terminal(), {}, "live"),
        ("dumb", Terminal(), {}, "plain"),
        ("", Terminal(), {}, "plain"),
        ("xterm", io.StringIO(), {}, "plain"),
        ("xterm", Terminal(), {"quiet": True}, "quiet"),
        ("xterm", Terminal(), {"as_json": True, "quiet": True}, "json"),
    ],
)
def test_the_picture_is_for_terminals_that_can_show_it(
    term: str, stream: TextIO, options: dict[str, bool], way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    assert way_to_follow(**{"as_json": False, "quiet": False} | options, stream=stream) == way


# -- lines


def test_a_log_has_a_line_for_what_begins_and_ends() -> None:
    with looking("plain") as (view, streams):
        started(view.board, "fix-1", title="Last page")
        happens(view.board, "fix-1", calls("make"))
        view.see(ended("fix-1"))
    begun, end = streams.err.getvalue().splitlines()
    assert (begun.split()[:2], end.split()[:2]) == (["started", "fix-1"], ["solved", "fix-1"])
    assert streams.out.getvalue() == ""


def test_a_log_says_now_and_then_how_far_the_batch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PROGRESS_SECONDS", 0.0)
    now = standing({"solved": 2}, running=1, queued=3, spent=12_340_000, cap=50_000_000)
    with looking("plain", now) as (_, streams):
        until(streams.err, "progress")
    assert streams.err.getvalue().splitlines()[0] == "progress        2 of 6 jobs · 1 running · $12.34 of $50.00"


def test_quiet_says_only_what_must_be_said() -> None:
    with looking("quiet") as (view, streams):
        started(view.board, "fix-1")
        view.see(ended("fix-1"))
        view.board.notice = "finishing 1 running job"
    assert (streams.out.getvalue(), streams.err.getvalue()) == ("", "finishing 1 running job\n")


# -- JSON


def test_a_machine_gets_each_event_on_a_line_and_nothing_else() -> None:
    with looking("json") as (view, streams):
        view.see(BatchEvent(kind="job_started", time=1.0, job="fix-1", attempt=1, text=HOSTILE))
        view.see(BatchEvent(kind="job_event", time=1.0, job="fix-1", attempt=1, event=calls("make")))
        view.see(ended("fix-1"))
        view.board.notice = "finishing"
        until(streams.out, "finishing")
        view.see(BatchEvent(kind="batch_ended", time=1.0, text="its own command says that, with all that came of it"))
    kinds = [json.loads(line)["kind"] for line in streams.out.getvalue().splitlines()]
    assert kinds == ["job_started", "job_event", "job_ended", "note"]
    assert streams.err.getvalue() == ""


def test_of_many_events_from_many_threads_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_WAITING", 50)
    with looking("json") as (view, streams):

        def work(job: str) -> None:
            for number in range(500):
                view.see(BatchEvent(kind="job_event", time=number, job=job, attempt=1, event=calls("make")))

        threads = [threading.Thread(target=work, args=(f"fix-{number}",)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    read = [json.loads(line) for line in streams.out.getvalue().splitlines()]
    assert len(read) == 5_000
    for number in range(10):
        times = [event.get("time") for event in read if event["job"] == f"fix-{number}"]
        assert times == [None, *range(1, 500)]


# -- nobody looks


@pytest.mark.parametrize("way", ["live", "plain", "json"])
def test_a_reader_that_goes_away_ends_nothing(way: Way) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as gone:
        with followed(way, name="b", look=lambda: standing(queued=1), out=gone, err=gone) as view:
            for number in range(20):
                started(view.board, f"fix-{number}", title="x" * 9_000)
                view.see(ended(f"fix-{number}"))
        gone.write("what comes later goes nowhere\n")


def test_a_state_that_cannot_be_read_does_not_end_the_picture() -> None:
    looks = iter([standing(queued=1)])

    def look() -> Standing:
        try:
            return next(looks)
        except StopIteration:
            raise StoreError("the disk is full") from None

    err = io.StringIO()
    with followed("plain", name="b", look=look, out=io.StringIO(), err=err) as view:
        view.see(ended("fix-1"))
        until(err, "fix-1")
