"""What earlier attempts at a job left: where it goes, what of it the next attempt gets, and what it has cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.approvals.base import Answer
from runner.past import Aside, paid_aside, past_of, put_away, set_aside, transcripts_of
from runner.report import RESULT, TRANSCRIPT
from runner.transcript import (
    AgentPrompted,
    ApprovalAnswered,
    ApprovalAsked,
    BranchTaken,
    Event,
    JobStarted,
    Reader,
    Resumed,
    Transcript,
    TranscriptError,
)
from tests.models.test_earlier import COST, PRICE, USAGE, replied

BEGUN = AgentPrompted(text="Fix it.")


def attempt(folder: Path, *events: Event) -> None:
    """Do the job once more, and die."""
    put_away(folder)
    with Transcript.open(folder / TRANSCRIPT) as transcript:
        for event in (JobStarted(job={}), *events):
            transcript.record(event)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# -- where it goes


def test_a_job_that_was_never_begun_has_no_past(tmp_path: Path) -> None:
    assert put_away(tmp_path) == 1
    assert past_of(tmp_path, price=PRICE) is None
    assert transcripts_of(tmp_path) == []


def test_all_that_an_attempt_left_is_put_away_with_it(tmp_path: Path) -> None:
    attempt(tmp_path)
    (tmp_path / RESULT).write_text("{}")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "0001-bash.log").write_text("x")
    assert put_away(tmp_path) == 2
    assert names(tmp_path) == {f"attempts/1/{name}" for name in (TRANSCRIPT, RESULT, "logs/0001-bash.log")}


def test_attempts_are_counted(tmp_path: Path) -> None:
    for _ in range(11):
        attempt(tmp_path)
    assert put_away(tmp_path) == 12
    assert [path.parent.name for path in transcripts_of(tmp_path)] == [str(number) for number in range(1, 12)]


def test_to_put_away_what_is_put_away_changes_nothing(tmp_path: Path) -> None:
    attempt(tmp_path)
    assert put_away(tmp_path) == put_away(tmp_path) == 2


def test_a_move_that_was_killed_half_way_is_finished_by_the_next(tmp_path: Path) -> None:
    attempt(tmp_path)
    (tmp_path / "attempts" / "1").mkdir(parents=True)
    (tmp_path / "attempts" / "1" / RESULT).write_text("{}")
    (tmp_path / "patch.diff").write_text("")
    assert put_away(tmp_path) == 2
    assert names(tmp_path) == {f"attempts/1/{name}" for name in (TRANSCRIPT, RESULT, "patch.diff")}


def test_the_private_repository_of_a_killed_runner_is_not_kept(tmp_path: Path) -> None:
    attempt(tmp_path)
    (tmp_path / "quarantine-1f2e").mkdir()
    (tmp_path / "quarantine-1f2e" / "HEAD").write_text("ref: refs/heads/main\n")
    put_away(tmp_path)
    assert names(tmp_path) == {f"attempts/1/{TRANSCRIPT}"}


def test_what_is_to_be_done_afresh_begins_with_the_first_attempt(tmp_path: Path) -> None:
    for _ in range(2):
        attempt(tmp_path, BEGUN, replied("a"))
        attempt(tmp_path, BEGUN, replied("b"))
        set_aside(tmp_path)
        assert put_away(tmp_path) == 1
        assert past_of(tmp_path, price=PRICE) is None
    assert names(tmp_path) == {f"aside/{one}/{two}/{TRANSCRIPT}" for one in (1, 2) for two in (1, 2)}


def test_nothing_is_set_aside_of_a_job_that_was_never_begun(tmp_path: Path) -> None:
    set_aside(tmp_path)
    assert names(tmp_path) == set()


# -- what of it is used


def test_the_past_is_that_of_all_attempts(tmp_path: Path) -> None:
    asked = ApprovalAsked(id="q1", turn=1, call="Bash(ls)", rule=None, where=None, reason="", expires_seconds=60)
    answered = ApprovalAnswered(id="q1", allowed=True, scope="once", by="me", seconds=1)
    taken = BranchTaken(
        commit="c0ffee", commits=("c0ffee",), committed_by_runner=False, files=1, insertions=1, deletions=0
    )
    attempt(tmp_path, BEGUN, replied("a"), asked, answered)
    attempt(tmp_path, Resumed(attempt=2, transcript="", replies=1), replied("a", played=True), replied("b"), taken)
    put_away(tmp_path)
    past = past_of(tmp_path, price=PRICE)
    assert past is not None
    assert (past.attempt, [one.reply.text for one in past.earlier.replies]) == (3, ["a", "b"])
    assert list(past.answers.values()) == [Answer(allowed=True, scope="once", by="me")]
    assert past.commits == {"c0ffee"}
    assert past.transcript == hash_of(tmp_path / "attempts" / "2" / TRANSCRIPT)
    assert (past.earlier.spent, past.event().replies_cost_usd) == (2 * COST, 2 * PRICE.cost_usd(USAGE))


def test_a_torn_last_line_is_no_damage_and_any_other_is_named(tmp_path: Path) -> None:
    attempt(tmp_path, BEGUN, replied("a"))
    put_away(tmp_path)
    transcript = tmp_path / "attempts" / "1" / TRANSCRIPT
    whole = transcript.read_bytes()
    transcript.write_bytes(whole + b'{"type": "model_repl')
    past = past_of(tmp_path, price=PRICE)
    assert past is not None
    assert len(past.earlier.replies) == 1
    transcript.write_bytes(whole.replace(b"Fix it.", b"Fix It."))
    with pytest.raises(TranscriptError, match=f"^{transcript}:3: prev is not the hash of the line before"):
        past_of(tmp_path, price=PRICE)


# -- what it has cost


def test_what_was_set_aside_is_paid_for(tmp_path: Path) -> None:
    assert paid_aside(tmp_path, price=PRICE) == Aside(spent=0, doubtful=0, whole=True)
    for _ in range(2):
        attempt(tmp_path, BEGUN, replied("a"))
        attempt(tmp_path, BEGUN, replied("b"))
        set_aside(tmp_path)
    assert paid_aside(tmp_path, price=PRICE) == Aside(spent=4 * COST, doubtful=0, whole=True)


def test_a_damaged_transcript_that_was_set_aside_stands_in_no_way(tmp_path: Path) -> None:
    for _ in range(2):
        attempt(tmp_path, BEGUN, replied("a"))
        set_aside(tmp_path)
    transcript = tmp_path / "aside" / "1" / "1" / TRANSCRIPT
    transcript.write_bytes(transcript.read_bytes().replace(b"Fix it.", b"Fix It."))
    assert paid_aside(tmp_path, price=PRICE) == Aside(spent=COST, doubtful=0, whole=False)


def hash_of(transcript: Path) -> str:
    reader = Reader(transcript)
    assert list(reader)
    return reader.hash
