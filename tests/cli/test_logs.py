"""`claw-runner logs`: what jobs do, from another process than the one that does them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.batch.base import Lease
from runner.batch.store import Store
from runner.cli import main
from runner.cli.tail import Tail, last_events
from runner.transcript import AnyEvent, JobEnded, JobStarted, Resumed, Transcript
from tests.batch.stored import SOLVED, planned, spec, take
from tests.batch.test_picture import HOSTILE, calls, replied

ID = "fix-issues-20261121-9f3a"
ACTS = set("\x1b\x07\u202e\u200b\x9b\x00")
PATIENCE = 60.0
BEGAN = JobStarted(job={"id": "x"})
ENDED = JobEnded(outcome="solved", reason="all checks pass")
Output = pytest.CaptureFixture[str]


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Three jobs under ./runs, none of them begun."""
    monkeypatch.chdir(tmp_path)
    jobs = [planned(number, title=f"Page {number} {HOSTILE}") for number in range(1, 4)]
    return Store.create(tmp_path / "runs" / ID, replace(spec(), id=ID), jobs)


def begin(store: Store) -> tuple[Lease, Transcript]:
    """The next job, with its transcript."""
    lease = take(store)
    store.advance(lease, "running")
    return lease, transcript(store.folder / lease.job.planned.id)


def transcript(folder: Path, *events: AnyEvent) -> Transcript:
    folder.mkdir(exist_ok=True)
    made = Transcript.open(folder / "transcript.jsonl")
    for event in (BEGAN, *events):
        made.record(event)
    return made


def logs(*args: str, capsys: Output) -> list[str]:
    assert main(["logs", *args]) == 0
    shown = capsys.readouterr()
    assert not set(shown.out) & ACTS
    return shown.out.splitlines()


class Following:
    """`claw-runner logs … -f`, read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def rest(self) -> list[str]:
        out, err = self._process.communicate(timeout=PATIENCE)
        assert (self._process.returncode, err) == (0, "")
        return out.splitlines()


@pytest.fixture
def following() -> Iterator[list[Following]]:
    started: list[Following] = []
    yield started
    for one in started:
        one._process.kill()
        one._process.communicate()


def follow(started: list[Following], *args: str) -> Following:
    command = [sys.executable, "-m", "runner", "logs", *args, "-f"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(Following(process))
    return started[-1]


# -- what was


@pytest.mark.parametrize("name", ["job-1", f"{ID}/job-1", "fix-/job-1", f"runs/{ID}/job-1"])
def test_a_job_of_a_batch_is_found_and_told(batch: Store, name: str, capsys: Output) -> None:
    begin(batch)[1].close()
    (line,) = logs(name, capsys=capsys)
    assert line.startswith("began    20")


def test_a_job_is_told_from_its_beginning_to_its_end(batch: Store, capsys: Output) -> None:
    _, made = begin(batch)
    for event in (
        Resumed(attempt=2, transcript="", replies=12),
        replied(13, "Let me look."),
        calls(f"make {HOSTILE}"),
        ENDED,
    ):
        made.record(event)
    began, resumed, turn, call, ended = logs("job-1", capsys=capsys)
    assert began.startswith("began ")
    assert resumed == "resumed  attempt 2; replies paid for, to be played again: 12"
    assert turn == "turn 13    1.0 s  $0.5000  Let me look."
    assert call.startswith("         Bash(make ")
    assert ended == "ended    solved: all checks pass"


def test_the_jobs_of_a_batch_are_told_one_after_the_other(batch: Store, capsys: Output) -> None:
    for _ in range(2):
        lease, made = begin(batch)
        made.record(ENDED)
        batch.end(lease, SOLVED)
    lines = logs(ID, capsys=capsys)
    assert [line[:11] for line in lines if line.startswith("==")] == ["== job-1  P", "== job-2  P"]
    assert lines.count("ended    solved: all checks pass") == 2


def test_a_job_that_has_not_begun_is_told_from_one_that_is_not_there(batch: Store, capsys: Output) -> None:
    assert main(["logs", "job-2"]) == 2
    message = f"job 'job-2' of batch {ID} has not begun; claw-runner status {ID}"
    assert capsys.readouterr().err == f"claw-runner: {message}\n"
    assert main(["logs", "nothing"]) == 2
    assert "'nothing' is no job or batch folder" in capsys.readouterr().err


def test_of_jobs_with_one_id_the_newest_is_meant_and_each_can_be_named(batch: Store, capsys: Output) -> None:
    begin(batch)[1].close()
    other = Store.create(batch.folder.parent / "other", replace(spec(), id="other"), [planned(1)])
    begin(other)[1].record(ENDED)
    assert len(logs("job-1", capsys=capsys)) == 2
    assert len(logs(f"{ID}/job-1", capsys=capsys)) == 1
    assert len(logs("other/job-1", capsys=capsys)) == 2


# -- what is


def test_a_job_is_followed_until_it_ends(batch: Store, following: list[Following]) -> None:
    lease, made = begin(batch)
    seen = follow(following, "job-1")
    assert seen.line().startswith("began")
    made.record(replied(1, "Let me look."))
    assert seen.line().endswith("Let me look.")
    made.record(ENDED)
    batch.end(lease, SOLVED)
    assert seen.rest() == ["ended    solved: all checks pass"]


def test_a_job_is_followed_into_its_next_attempt(batch: Store, following: list[Following]) -> None:
    lease, made = begin(batch)
    seen = follow(following, "job-1")
    assert seen.line().startswith("began")
    made.record(replied(1, "First."))
    made.close()
    folder = batch.folder / "job-1"
    (folder / "attempts" / "1").mkdir(parents=True)
    (folder / "transcript.jsonl").rename(folder / "attempts" / "1" / "transcript.jsonl")
    again = transcript(folder, replied(1, "Second."))
    again.record(ENDED)
    batch.end(lease, SOLVED)
    first, began, second, ended = seen.rest()
    assert (first[-6:], second[-7:]) == ("First.", "Second.")
    assert (began[:5], ended[:5]) == ("began", "ended")


def test_a_batch_is_followed_until_its_last_job_ends(batch: Store, following: list[Following]) -> None:
    first, made = begin(batch)
    made.record(replied(1, "First."))
    seen = follow(following, ID)
    assert seen.line().startswith("job-1  began")
    assert seen.line().endswith("First.")
    for _ in range(2):
        lease, other = begin(batch)
        other.record(ENDED)
        batch.end(lease, SOLVED)
    made.record(ENDED)
    batch.end(first, SOLVED)
    rest = seen.rest()
    assert {line for line in rest if "ended" in line} == {
        f"job-{number}  ended    solved: all checks pass" for number in (1, 2, 3)
    }


def test_following_ends_when_the_batch_was_stopped(batch: Store, following: list[Following]) -> None:
    batch.ask_to_stop("drain")
    assert follow(following, ID).rest() == [f"the batch was stopped; claw-runner resume {ID}"]


# -- the file


def test_a_line_that_is_not_whole_waits_for_its_end(tmp_path: Path) -> None:
    with transcript(tmp_path, replied(1)):
        path = tmp_path / "transcript.jsonl"
        whole = path.read_bytes()
    growing = tmp_path / "growing"
    tail = Tail(growing)
    assert list(tail.events()) == []
    growing.write_bytes(whole[:-10])
    assert [event.type for event in tail.events()] == ["job_started"]
    with growing.open("ab") as file:
        file.write(whole[-10:])
    assert [event.type for event in tail.events()] == ["model_replied"]
    assert list(tail.events()) == []
    tail.close()


def test_the_last_events_are_found_without_reading_the_rest(tmp_path: Path) -> None:
    with transcript(tmp_path) as made:
        for turn in range(1, 600):
            made.record(replied(turn, "x" * 200))
    found = last_events(tmp_path / "transcript.jsonl")
    assert 10 < len(found) < 400
    assert found[0].seq == 600
    assert last_events(tmp_path / "nothing") == []
