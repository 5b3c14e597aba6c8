"""Questions as files in the job's folder, answered from another terminal by `claw-runner approvals`.

A question is `<n>.json`; its one answer is `<n>.answer.json`, which can be made only once. Whoever makes it first has
the last word: a person, or the job when the time is over or it ends. So a question is never answered twice, and a late
answer is told that it is late. No container sees the folder.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from runner.approvals.base import Answer, Ask, Scope, in_vain
from runner.artifacts import write_whole
from runner.errors import Cancelled, ConfigError
from runner.masking import valid_text
from runner.sandbox import owner

FOLDER = "approvals"
"""In the job's folder."""
POLL_SECONDS = 0.2
"""Between two looks for an answer."""
MOST_REASON_CHARS = 4_000
MOST_ANSWER_BYTES = 65_536
MOST_QUESTION_BYTES = 100_000_000
_QUESTION = re.compile(r"([1-9][0-9]{0,8})\.json")


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Question(_File):
    """What a question's file says."""

    version: Literal[1] = 1
    job: str
    id: str
    """`<job>/<n>`."""
    token: str
    """Must be in the answer: one that was there before the question was asked is none."""
    call: str
    reason: str
    rule: str | None
    where: str | None
    suggestion: str | None
    input: str
    asked_at: AwareDatetime
    expires_at: AwareDatetime
    owner: str
    """The runner that waits: see `runner.sandbox.owner`."""


class Reply(_File):
    """What an answer's file says."""

    version: Literal[1] = 1
    id: str
    token: str
    how: Literal["answered", "expired", "stopped"]
    """answered: by a person; expired, stopped: by the job, when the time was over or the job ended."""
    allowed: bool
    scope: Scope
    by: str
    reason: str
    answered_at: AwareDatetime


class QueueApprover:
    """Asks whoever looks into the queue. Several threads may ask at once."""

    def __init__(self, folder: Path, *, stopped: Callable[[], bool] = lambda: False) -> None:
        self._folder = folder
        self._stopped = stopped

    def ask(self, question: Ask) -> Answer:
        """See Approver. Raises OSError when the question cannot be written; Cancelled when `stopped` says so."""
        asked, deadline = self._question(question), time.monotonic() + question.seconds
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(self._file(asked), _json(asked))
            while (left := deadline - time.monotonic()) > 0:
                if reply := self._valid_reply(asked):
                    return _answer(reply)
                if self._stopped():
                    raise Cancelled
                time.sleep(min(POLL_SECONDS, left))
            self._close(asked, "expired")
        except BaseException:
            self._close(asked, "stopped")
            raise
        # An answer that was quicker than our closing counts.
        reply = self._valid_reply(asked)
        return _answer(reply) if reply else in_vain(question)

    def _question(self, question: Ask) -> Question:
        now, job = datetime.now(UTC), self._folder.absolute().parent.name
        return Question(
            job=job,
            id=f"{job}/{question.id.rpartition('/')[2]}",
            token=secrets.token_hex(16),
            call=valid_text(question.call),
            reason=valid_text(question.reason),
            rule=question.rule,
            where=question.where,
            suggestion=None if question.suggestion is None else valid_text(question.suggestion),
            input=valid_text(question.input),
            asked_at=now,
            expires_at=now + timedelta(seconds=question.seconds),
            owner=owner.mine(),
        )

    def _valid_reply(self, asked: Question) -> Reply | None:
        """A person's answer to this very question, given in time; None for anything else."""
        reply = _read_reply(_answer_file(self._file(asked)))
        if reply is None or (reply.id, reply.token, reply.how) != (asked.id, asked.token, "answered"):
            return None
        return reply if reply.answered_at <= asked.expires_at else None

    def _close(self, asked: Question, how: Literal["expired", "stopped"]) -> None:
        # It is a courtesy to those who come late. A disk that is full, or a folder that is gone, is no reason to fail.
        with suppress(OSError):
            _write_once(
                _answer_file(self._file(asked)), _reply(asked, how=how, allowed=False, scope="once", by="", reason="")
            )

    def _file(self, asked: Question) -> Path:
        return self._folder / f"{asked.id.rpartition('/')[2]}.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A question in a folder of jobs, as it stands now."""

    path: Path
    question: Question
    reply: Reply | None
    state: Literal["waiting", "answered", "expired", "gone"]
    """gone: the runner that asked has ended without a word."""


def questions(runs: Path) -> list[Found]:
    """All questions of the jobs in `runs`, and of its batches, the oldest first. What is no question is left out."""
    files = (*runs.glob(f"*/{FOLDER}/*.json"), *runs.glob(f"*/*/{FOLDER}/*.json"))
    found = [look for path in files if _QUESTION.fullmatch(path.name) and (look := _look(path))]
    return sorted(found, key=lambda one: (one.question.asked_at, one.question.id))


def find(runs: Path, id: str, *, waiting: bool) -> Found:
    """The question of that id, `<job>/<n>`; the beginning of the job will do, and without `/<n>` its only question.

    Of several, one that waits is meant when `waiting`. Raises ConfigError when none is, or which is not clear.
    """
    known = questions(runs)
    named = [one for one in known if one.question.id == id] or [one for one in known if _begins(one.question, id)]
    if len(named) > 1 and waiting:
        named = [one for one in named if one.state == "waiting"] or named
    if len(named) == 1:
        return named[0]
    if named:
        raise ConfigError(f"{id!r} can be any of {_some([one.question.id for one in named])}; write more of it")
    waits = [one.question.id for one in known if one.state == "waiting"]
    raise ConfigError(
        f"there is no question {id!r} in {runs}/; {f'waiting: {_some(waits)}' if waits else 'none waits'}"
    )


def answer(found: Found, *, allowed: bool, scope: Scope, reason: str) -> Reply:
    """Answer it, as the user whose process this is.

    Raises ConfigError when the question is not open any more, or not this user's to answer.
    """
    _refuse_if_closed(found)
    if len(reason) > MOST_REASON_CHARS:
        raise ConfigError(f"--reason: must be at most {MOST_REASON_CHARS:,} characters (got {len(reason):,})")
    if found.path.stat().st_uid != os.geteuid():
        raise ConfigError(f"{found.question.id}: was asked by {found.path.owner()}; only that user can answer it")
    reply = _reply(found.question, how="answered", allowed=allowed, scope=scope, by=_user(), reason=reason)
    if not _write_once(_answer_file(found.path), reply):
        _refuse_if_closed(_look(found.path) or found)
        raise ConfigError(f"{found.question.id}: is being answered by somebody else")
    return reply


def _refuse_if_closed(found: Found) -> None:
    question, reply = found.question, found.reply
    expired = f"it is too late: nobody had answered by {question.expires_at:%H:%M:%S} UTC, so it was denied"
    match found.state, reply:
        case "answered", None:
            raise ConfigError(f"{question.id}: cannot be answered: {_answer_file(found.path)} is no answer")
        case "answered", Reply(how="answered"):
            how = "allowed" if reply.allowed else "denied"
            raise ConfigError(f"{question.id}: was {how} already, by {reply.by} at {reply.answered_at:%H:%M:%S} UTC")
        case "answered", Reply(how="stopped"):
            raise ConfigError(f"{question.id}: the job has ended")
        case ("answered", _) | ("expired", _):
            raise ConfigError(f"{question.id}: {expired}")
        case "gone", _:
            raise ConfigError(f"{question.id}: the job is gone: the runner that asked has ended")


# -- files


def _look(path: Path) -> Found | None:
    """What a file says if it is a question; None otherwise."""
    found = _read(path, MOST_QUESTION_BYTES)
    if found is None:
        return None
    try:
        question = Question.model_validate_json(found.data)
    except ValidationError:
        return None
    if question.id != f"{path.absolute().parent.parent.name}/{path.stem}":
        return None
    answered = _answer_file(path)
    reply = _read_reply(answered)
    if os.path.lexists(answered):
        return Found(path=path, question=question, reply=reply, state="answered")
    if owner.state(question.owner) == "dead":
        return Found(path=path, question=question, reply=None, state="gone")
    state: Literal["waiting", "expired"] = "waiting" if datetime.now(UTC) <= question.expires_at else "expired"
    return Found(path=path, question=question, reply=None, state=state)


def _answer_file(question: Path) -> Path:
    return question.with_suffix(".answer.json")


def _read_reply(path: Path) -> Reply | None:
    """What an answer's file says; None for one that is not there, not whole yet, or not ours to believe."""
    found = _read(path, MOST_ANSWER_BYTES)
    if found is None or found.uid != os.geteuid() or found.mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    try:
        # No part of a JSON object is one, so that a file that is being written is not an answer yet.
        return Reply.model_validate_json(found.data)
    except ValidationError:
        return None


class _Read(NamedTuple):
    data: bytes
    uid: int
    mode: int


def _read(path: Path, most_bytes: int) -> _Read | None:
    """A regular file, and whose it is; None for anything else, and for what cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                return None
            with os.fdopen(handle, "rb", closefd=False) as file:
                return _Read(file.read(most_bytes), facts.st_uid, facts.st_mode)
        finally:
            os.close(handle)
    except OSError:
        return None


def _write_once(path: Path, reply: Reply) -> bool:
    """Make the answer; False when there is one. Raises OSError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_json(reply))
            file.flush()
            os.fsync(handle)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _json(model: BaseModel) -> bytes:
    return model.model_dump_json(indent=2).encode() + b"\n"


def _reply(
    asked: Question,
    *,
    how: Literal["answered", "expired", "stopped"],
    allowed: bool,
    scope: Scope,
    by: str,
    reason: str,
) -> Reply:
    return Reply(
        id=asked.id,
        token=asked.token,
        how=how,
        allowed=allowed,
        scope=scope,
        by=by,
        reason=valid_text(reason),
        answered_at=datetime.now(UTC),
    )


def _answer(reply: Reply) -> Answer:
    return Answer(allowed=reply.allowed, scope=reply.scope, by=reply.by, reason=reply.reason)


def _user() -> str:
    """Name of the user that this process runs as; a variable could say anything."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def _begins(question: Question, id: str) -> bool:
    job, slash, number = id.rpartition("/")
    if not slash:
        return bool(id) and question.id.startswith(id)
    return question.job.startswith(job) and question.id.rpartition("/")[2] == number


def _some(ids: list[str], most: int = 5) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")
