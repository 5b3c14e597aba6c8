"""The queue: a question is answered once, in time, by its own user, or it is denied."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.approvals import Answer, Ask, QueueApprover, open_approver
from runner.approvals.queue import FOLDER, Found, answer, find, questions
from runner.errors import Cancelled, ConfigError
from tests.approvals.terminals import PATIENCE, question

JOB = "fix-20260504-093000-a1b2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder in a folder of jobs."""
    (tmp_path / JOB).mkdir()
    return tmp_path / JOB


def waiting(folder: Path, **more: object) -> Callable[[], Answer]:
    """Ask in a thread, until the question can be seen; returns what waits for the answer."""
    ask = question(id=f"{JOB}/1", **more)
    answers: list[Answer] = []
    thread = threading.Thread(
        target=lambda: answers.append(open_approver(folder, terminal=False).ask(ask)), daemon=True
    )
    thread.start()
    until(lambda: questions(folder.parent))

    def result() -> Answer:
        thread.join(PATIENCE)
        assert answers
        return answers[0]

    return result


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def only(folder: Path) -> Found:
    (found,) = questions(folder.parent)
    return found


def yes(found: Found, **more: Any) -> None:
    answer(found, **{"allowed": True, "scope": "once", "reason": ""} | more)


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def answer_file(folder: Path) -> Path:
    return folder / FOLDER / "1.answer.json"


# -- the way through


def test_a_question_is_a_file_with_all_that_is_needed_to_answer_it(folder: Path) -> None:
    ask = question(id=f"{JOB}/1", rule="Bash(pip install:*)", where="policy.yaml:7", seconds=0.1)
    QueueApprover(folder / FOLDER).ask(ask)
    found = only(folder).question
    assert (found.job, found.id, found.call, found.reason) == (JOB, f"{JOB}/1", ask.call, ask.reason)
    assert (found.rule, found.where, found.suggestion) == (ask.rule, ask.where, ask.suggestion)
    assert found.input == ask.input
    assert found.expires_at - found.asked_at == timedelta(seconds=0.1)
    assert found.asked_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(("allowed", "scope"), [(True, "once"), (True, "job"), (False, "once")])
def test_the_answer_is_what_was_answered(folder: Path, allowed: bool, scope: str) -> None:
    result = waiting(folder)
    yes(only(folder), allowed=allowed, scope=scope, reason="because")
    assert (result().allowed, result().scope, result().reason) == (allowed, scope, "because")
    assert result().by == Path(f"/proc/{os.getpid()}").owner()


def test_nobody_else_can_look_into_the_queue(folder: Path) -> None:
    result = waiting(folder)
    yes(only(folder))
    result()
    assert (folder / FOLDER).stat().st_mode & 0o077 == 0
    assert answer_file(folder).stat().st_mode & 0o077 == 0


def test_without_questions_there_is_no_folder(folder: Path) -> None:
    open_approver(folder, terminal=False)
    assert not (folder / FOLDER).exists()


def test_several_questions_wait_side_by_side(folder: Path) -> None:
    approver, answers = QueueApprover(folder / FOLDER), {}

    def ask(number: int) -> None:
        answers[number] = approver.ask(question(id=f"{JOB}/{number}"))

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    until(lambda: len(questions(folder.parent)) == 4)
    for number in (4, 2, 3, 1):
        yes(find(folder.parent, f"{JOB}/{number}", waiting=True), allowed=number % 2 == 0)
    for thread in threads:
        thread.join(PATIENCE)
    assert {number: given.allowed for number, given in answers.items()} == {1: False, 2: True, 3: False, 4: True}


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", "a\nb\x1b[31m", "x" * 1_000_000])
def test_a_call_may_hold_anything(folder: Path, text: str) -> None:
    ask = question(id=f"{JOB}/1", call=f"Bash({text})", input=json.dumps({"command": text}), seconds=0.05)
    assert not QueueApprover(folder / FOLDER).ask(ask).allowed
    assert only(folder).question.call.startswith("Bash(")


# -- nobody, too late, gone


def test_a_question_that_nobody_answers_is_denied_and_closed(folder: Path) -> None:
    given = QueueApprover(folder / FOLDER).ask(question(id=f"{JOB}/1", seconds=0.1))
    assert given == Answer(allowed=False, scope="once", by="timeout", reason="nobody answered within 0.1 s")
    with pytest.raises(ConfigError, match=rf"{JOB}/1: it is too late: nobody had answered by .* so it was denied"):
        yes(only(folder))


def test_an_answer_that_was_made_after_the_time_was_over_is_refused(folder: Path) -> None:
    """The runner may be late to close the question."""
    result = waiting(folder)
    found = only(folder)
    edit(found.path, expires_at="2020-01-01T00:00:00Z")
    with pytest.raises(ConfigError, match="it is too late"):
        yes(only(folder))
    assert only(folder).state == "expired"
    yes(found)
    assert result().allowed, "the runner goes by its own clock, not by a file"


def test_a_question_is_closed_when_the_job_is_stopped(folder: Path) -> None:
    class Stopped(QueueApprover):
        def _valid_reply(self, asked: Any) -> Any:
            raise Cancelled

    with pytest.raises(Cancelled):
        Stopped(folder / FOLDER).ask(question(id=f"{JOB}/1"))
    with pytest.raises(ConfigError, match=f"{JOB}/1: the job has ended"):
        yes(only(folder))


def test_a_question_can_be_answered_only_once(folder: Path) -> None:
    result = waiting(folder)
    found = only(folder)
    yes(found, allowed=False, reason="no")
    with pytest.raises(ConfigError, match=rf"{JOB}/1: was denied already, by .* at .* UTC"):
        yes(found)
    assert not result().allowed


def test_a_queue_that_is_taken_away_is_a_denial(folder: Path) -> None:
    result = waiting(folder, seconds=2)
    (folder / FOLDER).rename(folder / "elsewhere")
    assert result().by == "timeout"


# -- answers that are none


def in_vain(folder: Path, answers: Sequence[Callable[[Path, dict[str, object]], object]]) -> list[str]:
    """Ask a question for each, have it make the answer's file out of one that would be right; who answered?"""
    approver, given = QueueApprover(folder / FOLDER), dict.fromkeys(range(1, len(answers) + 1), "nobody yet")

    def ask(number: int) -> None:
        given[number] = approver.ask(question(id=f"{JOB}/{number}", seconds=3)).by

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in given]
    for thread in threads:
        thread.start()
    until(lambda: len(questions(folder.parent)) == len(answers))
    for number, make in enumerate(answers, start=1):
        found = find(folder.parent, f"{JOB}/{number}", waiting=False)
        # Made elsewhere, so that no look of the runner comes upon it half made.
        make(folder / f"{number}.made", reply_to(found))
        (folder / f"{number}.made").rename(found.path.with_suffix(".answer.json"))
    for thread in threads:
        thread.join(PATIENCE)
    return list(given.values())


def written(path: Path, reply: dict[str, object], *, mode: int = 0o600) -> None:
    path.write_text(json.dumps(reply))
    path.chmod(mode)


FAULTS: tuple[dict[str, object], ...] = (
    {"id": f"{JOB}/99"},
    {"id": "other-job/1"},
    {"token": "0" * 32},
    {"how": "expired"},
    {"how": "stopped"},
    {"answered_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
    {"answered_at": "2026-05-04T09:30:00"},
    {"allowed": 1},
    {"allowed": "true"},
    {"scope": "always"},
    {"more": True},
    {"version": 2},
)


def test_an_answer_that_is_not_exactly_one_allows_nothing(folder: Path) -> None:
    makers = [lambda path, reply, fault=fault: written(path, reply | fault) for fault in FAULTS]
    assert in_vain(folder, makers) == ["timeout"] * len(FAULTS)


def test_a_file_that_cannot_be_trusted_allows_nothing(folder: Path) -> None:
    def link(path: Path, reply: dict[str, object]) -> None:
        written(folder / "target", reply)
        path.symlink_to(folder / "target")

    makers: list[Callable[[Path, dict[str, object]], object]] = [
        lambda path, reply: path.write_bytes(b"\xff\x00{"),
        lambda path, reply: path.touch(),
        lambda path, reply: path.mkdir(),
        lambda path, reply: os.mkfifo(path),
        lambda path, reply: written(path, reply, mode=0o666),
        link,
    ]
    assert in_vain(folder, makers) == ["timeout"] * len(makers)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_a_file_of_another_user_allows_nothing(folder: Path) -> None:
    def given_away(path: Path, reply: dict[str, object]) -> None:
        written(path, reply)
        os.chown(path, 1000, 1000)

    assert in_vain(folder, [given_away]) == ["timeout"]


def reply_to(found: Found) -> dict[str, object]:
    reply = {"version": 1, "id": found.question.id, "token": found.question.token, "how": "answered", "allowed": True}
    return reply | {"scope": "once", "by": "ana", "reason": "", "answered_at": datetime.now(UTC).isoformat()}


def test_the_same_answer_without_a_fault_allows(folder: Path) -> None:
    result = waiting(folder)
    replied = json.dumps(reply_to(only(folder)))
    handle = os.open(answer_file(folder), os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(handle, replied[:100].encode())  # a writer that takes its time
    time.sleep(0.5)
    os.write(handle, replied[100:].encode())
    os.close(handle)
    assert result().allowed


def test_an_answer_that_lay_there_before_the_question_allows_nothing(folder: Path) -> None:
    earlier = waiting(folder)
    replied = reply_to(only(folder))
    yes(only(folder))
    earlier()
    (folder / FOLDER / "1.json").unlink()
    edit(answer_file(folder), **replied)
    asked = question(id=f"{JOB}/1", seconds=0.5)
    assert QueueApprover(folder / FOLDER).ask(asked).by == "timeout"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_only_the_user_who_runs_the_job_answers(folder: Path) -> None:
    result = waiting(folder)
    os.chown(only(folder).path, 1000, 1000)
    with pytest.raises(ConfigError, match="only that user can answer it"):
        yes(only(folder))
    os.chown(only(folder).path, 0, 0)
    yes(only(folder))
    result()


# -- finding


def test_what_is_no_question_is_left_out(folder: Path) -> None:
    result = waiting(folder)
    queue = folder / FOLDER
    (queue / "2.json").write_text("{")
    (queue / "3.json").write_text(only(folder).path.read_text())
    (queue / "x.json").write_text("{}")
    (queue / ".claw-1-4.json").write_text("{}")
    (queue / "5.json").mkdir()
    (folder.parent / "file").write_text("")
    assert [found.question.id for found in questions(folder.parent)] == [f"{JOB}/1"]
    yes(only(folder))
    result()


def test_questions_of_batches_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "batch-7" / JOB
    folder.mkdir(parents=True)
    QueueApprover(folder / FOLDER).ask(question(id=f"{JOB}/1", seconds=0.01))
    assert find(tmp_path, JOB, waiting=False).path == folder / FOLDER / "1.json"


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Questions that are closed: two of one job, one of another."""
    for id in ("fix-a-1/1", "fix-a-1/12", "fix-b-2/1"):
        folder = tmp_path / id.partition("/")[0]
        folder.mkdir(exist_ok=True)
        QueueApprover(folder / FOLDER).ask(question(id=id, seconds=0.01))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "id"),
    [("fix-a-1/1", "fix-a-1/1"), ("fix-a/12", "fix-a-1/12"), ("fix-b", "fix-b-2/1"), ("fix-b-2", "fix-b-2/1")],
)
def test_the_beginning_of_an_id_will_do(several: Path, text: str, id: str) -> None:
    assert find(several, text, waiting=True).question.id == id


@pytest.mark.parametrize("text", ["fix", "fix-a", "fix-/1", "/1"])
def test_an_id_that_can_be_several_is_refused_with_what_it_can_be(several: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="can be any of fix-a-1/1"):
        find(several, text, waiting=True)


@pytest.mark.parametrize("text", ["", "nothing", "fix-a-1/2", "fix-a-1/"])
def test_an_unknown_id_is_refused(several: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="there is no question .*; none waits"):
        find(several, text, waiting=True)


def test_of_several_the_one_that_waits_is_meant(several: Path) -> None:
    folder = several / "fix-a-1"
    thread = threading.Thread(target=QueueApprover(folder / FOLDER).ask, args=(_third(),), daemon=True)
    thread.start()
    until(lambda: any(found.state == "waiting" for found in questions(several)))
    found = find(several, "fix-a", waiting=True)
    assert found.question.id == "fix-a-1/13"
    yes(found)
    thread.join(PATIENCE)


def _third() -> Ask:
    return question(id="fix-a-1/13")


def test_who_is_told_to_stop_waits_no_longer_and_takes_the_question_back(folder: Path) -> None:
    stop = threading.Event()
    approver = open_approver(folder, terminal=False, stopped=stop.is_set)
    left = threading.Event()

    def ask() -> None:
        with suppress(Cancelled):
            approver.ask(question(id=f"{JOB}/1"))
        left.set()

    threading.Thread(target=ask, daemon=True).start()
    until(lambda: questions(folder.parent))
    stop.set()
    assert left.wait(PATIENCE)
    with pytest.raises(ConfigError):
        answer(only(folder), allowed=True, scope="once", reason="")
