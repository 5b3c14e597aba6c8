"""`claw-runner status`: how far batches are, through the front door."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.batch.base import Ended
from runner.batch.store import Store
from runner.cli import main
from runner.sandbox import owner
from runner.transcript import Transcript
from tests.batch.stored import LOST, SOLVED, planned, spec, take
from tests.batch.test_picture import HOSTILE, calls, replied

ID = "fix-issues-20261121-9f3a"
ACTS = set("\x1b\x07\u202e\u200b\x9b\x00")
UNSOLVED = Ended(outcome="unsolved", reason=f"check failed {HOSTILE}", seconds=60)
Output = pytest.CaptureFixture[str]


def make(folder: Path, **limits: object) -> Store:
    made = replace(spec(**limits), id=folder.name, created_at="2026-11-21T18:00:00Z")
    return Store.create(folder, made, [planned(number, title=HOSTILE) for number in range(1, 9)])


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Of eight jobs four have ended, one is under way."""
    monkeypatch.chdir(tmp_path)
    store = make(tmp_path / "runs" / ID, cost_usd=50.0, jobs=2)
    for ended in (SOLVED, UNSOLVED, LOST, LOST):
        store.end(take(store), ended)
    lease = take(store, owner.mine(), seconds=3600)
    store.advance(lease, "running")
    ledger = store.ledger(lease)
    reservation = ledger.reserve(least=1, most=1_200_000)
    ledger.settle(reservation, spent=340_000, doubtful=10_000)
    ledger.reserve(least=1, most=600_000)
    folder = store.folder / "job-5"
    folder.mkdir()
    with Transcript.open(folder / "transcript.jsonl") as transcript:
        transcript.record(replied(7, "Let me look."))
        transcript.record(calls(f"make {HOSTILE}"))
    return store


def status(*args: str, capsys: Output) -> list[str]:
    assert main(["status", *args]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert not set(shown.out) & ACTS
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


# -- one batch


def test_a_batch_at_work_shows_jobs_money_and_who_works(batch: Store, capsys: Output) -> None:
    head, bar, counts, money, *rest = status(ID, capsys=capsys)
    assert head == f"{ID}  running"
    assert (len(bar), bar.count("━")) == (80, 40)
    assert counts == "solved 1 · unsolved 1 · sandbox_error 2 · 1 running · 3 queued"
    assert money == "$0.3400 of $50.00 · $0.6000 set aside · $0.0100 in doubt"
    assert rest[0].startswith("about ")
    text = "\n".join(rest)
    assert "source    issues.json, since 2026-11-21 18:00 UTC" in text
    assert " here, with 1 job" in text
    assert rest[-1] == f"next      claw-runner logs {ID} -f"


def test_a_job_under_way_shows_what_it_did_last_and_when(batch: Store, capsys: Output) -> None:
    row = next(line for line in status(ID, capsys=capsys) if line.startswith("job-5"))
    job, state, turn, ago, last = row.split(maxsplit=4)
    assert (job, state, turn) == ("job-5", "running", "7")
    assert ago.startswith("0:")
    assert last.startswith("Bash(make ")


def test_failures_are_told_by_cause_with_what_to_do(batch: Store, capsys: Output) -> None:
    text = "\n".join(status(ID, capsys=capsys))
    assert "sandbox   2: job-3, job-4\n          the container went away\n          → whoever runs the engine" in text
    assert "unsolved  1: job-2\n          check failed" in text


def test_a_batch_whose_runner_died_says_how_to_go_on(batch: Store, capsys: Output) -> None:
    store = make(batch.folder.parent / "dead")
    dead = ":".join([*owner.mine().split(":")[:2], "4194304", "1"])  # more than any process id of Linux
    take(store, dead, seconds=3600)
    head, _, counts, *_, last = status("dead", capsys=capsys)
    assert head == "dead  idle"
    assert counts == "1 half-way · 7 queued"
    assert last == "next      claw-runner resume dead"


def test_a_batch_that_ended_says_what_may_be_tried_again(batch: Store, capsys: Output) -> None:
    store = make(batch.folder.parent / "done")
    for ended in (SOLVED, UNSOLVED, LOST, *[SOLVED] * 5):
        store.end(take(store), ended)
    head, *_, last = status("done", capsys=capsys)
    assert head == "done  ended"
    assert last == "next      claw-runner retry done --outcome sandbox_error"


def test_a_batch_that_is_asked_to_stop_says_so(batch: Store, capsys: Output) -> None:
    batch.ask_to_stop("drain")
    assert status(ID, capsys=capsys)[0] == f"{ID}  stopping"


def test_json_has_the_same_facts(batch: Store, capsys: Output) -> None:
    assert main(["status", ID, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert (read["batch"], read["state"], read["jobs"]) == (ID, "running", 8)
    assert read["states"] == {"ended": 4, "running": 1, "queued": 3}
    assert read["outcomes"] == {"solved": 1, "unsolved": 1, "sandbox_error": 2}
    assert (read["cost_usd"], read["reserved_usd"], read["doubtful_usd"]) == ("0.34", "0.6", "0.01")
    assert [(one["job"], one["turn"]) for one in read["running"]] == [("job-5", 7)]
    assert [one["kind"] for one in read["failures"]] == ["sandbox", "unsolved"]
    assert [holder["jobs"] for holder in read["runners"]] == [1]


# -- all batches


def test_all_batches_are_listed_the_newest_first(batch: Store, capsys: Output) -> None:
    make(batch.folder.parent / "older-1").close()
    newer = replace(spec(), id="newer", created_at="2027-01-01T00:00:00Z")
    store = Store.create(batch.folder.parent / "newer", newer, [planned(1)])
    store.end(take(store), SOLVED)
    head, *rows = status(capsys=capsys)
    assert head.split() == ["batch", "state", "ended", "good", "cost"]
    assert rows[0].split()[:2] == ["newer", "ended"]
    assert {row.split()[0]: row.split()[1] for row in rows} == {"newer": "ended", ID: "running", "older-1": "idle"}
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["batch"] == "newer"


def test_a_damaged_batch_does_not_hide_the_others(batch: Store, capsys: Output) -> None:
    broken = batch.folder.parent / "broken"
    broken.mkdir()
    (broken / "batch.sqlite").write_bytes(b"no database")
    assert main(["status"]) == 0
    shown = capsys.readouterr()
    assert ID in shown.out
    assert "broken/batch.sqlite: damaged" in shown.err


def test_without_a_batch_it_says_how_to_begin_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status("--runs", "elsewhere", capsys=capsys)[0].startswith("there is no batch in elsewhere/")
