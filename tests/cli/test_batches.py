"""`claw-runner stop` and `retry`, through the front door."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.batch.base import Ended
from runner.batch.store import Store
from runner.cli import main
from runner.errors import Outcome
from tests.batch.stored import LOST, SOLVED, planned, spec, take

ID = "fix-issues-20261121-9f3a"
UNSOLVED = Ended(outcome="unsolved", reason="check failed", seconds=60)
Output = pytest.CaptureFixture[str]


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A batch of five jobs under ./runs: solved, unsolved, lost to the sandbox; two wait."""
    monkeypatch.chdir(tmp_path)
    made = replace(spec(), id=ID, created_at="2026-11-21T18:00:00Z")
    store = Store.create(tmp_path / "runs" / ID, made, [planned(number) for number in range(1, 6)])
    for ended in (SOLVED, UNSOLVED, LOST):
        store.end(take(store), ended)
    return store


def fresh(store: Store) -> dict[str, bool]:
    """The jobs that wait: whether they begin anew."""
    return {row.planned.id: row.fresh for row in store.jobs(states=("queued",))}


# -- stop


@pytest.mark.parametrize(("options", "how"), [([], "drain"), (["--now"], "now")])
def test_a_batch_is_asked_to_stop(batch: Store, options: list[str], how: str, capsys: Output) -> None:
    take(batch)
    assert main(["stop", ID, *options]) == 0
    assert batch.asked_to_stop() == how
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1 job under way will be ")
    assert second == f"to go on with it: claw-runner resume {ID}"


def test_a_batch_that_nobody_works_on_can_be_stopped(batch: Store, capsys: Output) -> None:
    assert main(["stop", "fix-"]) == 0
    assert batch.asked_to_stop() == "drain"
    assert capsys.readouterr().out.startswith("nobody holds a job of it")


def test_a_batch_that_has_ended_is_not_stopped(batch: Store, capsys: Output) -> None:
    for _ in range(2):
        batch.end(take(batch), SOLVED)
    assert main(["stop", ID]) == 0
    assert batch.asked_to_stop() is None
    assert capsys.readouterr().out == "5 jobs, all ended: there is nothing to stop\n"


# -- retry


def test_what_was_not_the_jobs_fault_goes_on_and_what_was_begins_anew(batch: Store, capsys: Output) -> None:
    assert main(["retry", ID, "--outcome", "unsolved,sandbox_error"]) == 0
    assert fresh(batch) == {"job-2": True, "job-3": False, "job-4": False, "job-5": False}
    assert capsys.readouterr().out == (
        f"queued again: 1 job to begin anew, 1 job to go on with what was paid for\nnext: claw-runner resume {ID}\n"
    )


@pytest.mark.parametrize(("option", "anew"), [("--fresh", True), ("--no-fresh", False)])
def test_a_person_can_say_which(batch: Store, option: str, anew: bool) -> None:
    assert main(["retry", ID, "--outcome", "unsolved", "--outcome", "sandbox_error", option]) == 0
    assert {id: fresh(batch)[id] for id in ("job-2", "job-3")} == {"job-2": anew, "job-3": anew}


def test_one_job_can_be_named(batch: Store) -> None:
    assert main(["retry", ID, "--job", "job-1", "--job", "job-1"]) == 0
    assert fresh(batch)["job-1"] is True
    assert batch.counts().states["queued"] == 3


def test_nothing_that_matches_is_no_error(batch: Store, capsys: Output) -> None:
    outcome: Outcome = "tampered"
    assert main(["retry", ID, "--outcome", outcome]) == 0
    assert capsys.readouterr().out == "no job of it ended so\n"


def test_whoever_works_on_it_is_said_to_take_them_up(batch: Store, capsys: Output) -> None:
    take(batch)
    assert main(["retry", ID, "--outcome", "unsolved"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the runner that works on it takes them up"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "retry: which jobs? --outcome unsolved,no_change, or --job ID"),
        (["--outcome", "unsolvd"], "--outcome: there is no outcome 'unsolvd'; did you mean 'unsolved'?"),
        (["--job", "job-4"], "--job: 'job-4' has not ended, it is queued; there is nothing to retry"),
        (["--job", "nothing"], "has no job 'nothing'"),
    ],
)
def test_a_mistake_says_what_to_do(batch: Store, options: list[str], message: str, capsys: Output) -> None:
    assert main(["retry", ID, *options]) == 2
    assert message in capsys.readouterr().err
    assert batch.counts().states == {"ended": 3, "queued": 2}


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["stop"], "batch"),
        (["retry", "--outcome", "unsolved"], "batch"),
        (["status"], "batch"),
        (["resume"], "job or batch"),
        (["logs"], "job or batch"),
    ],
)
def test_an_unknown_name_is_a_usage_error(batch: Store, command: list[str], what: str, capsys: Output) -> None:
    assert main([command[0], "nothing", *command[1:]]) == 2
    message = f"'nothing' is no {what} folder, and no {what} in runs/ begins so; the newest is {ID}"
    assert capsys.readouterr().err == f"claw-runner: {message}\n"


def test_a_batch_is_found_by_its_folder_wherever_it_is(
    batch: Store, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(batch.folder)
    for name in (".", str(batch.folder)):
        assert main(["status", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["batch"] == ID
