"""What may be tried again: one table from the cause of a failure to how often, how soon, and who must act."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from runner.batch.base import Ended, Limits
from runner.errors import Cause, Outcome, RunnerError


@dataclass(frozen=True, kw_only=True, slots=True)
class Treatment:
    """What a batch does about a cause."""

    tries: int
    """Further attempts at one job; of them no more than `limits.retries` are made."""
    first_seconds: float
    """Before the first of them; doubled before each one after it."""
    longest_seconds: float
    remedy: str
    """Who must act when that did not help, and how."""


CAUSES: dict[Cause, Treatment] = {
    # The job's own requests were repeated many times before it ended with this, so it is no passing hiccup.
    "provider": Treatment(
        tries=6,
        first_seconds=60,
        longest_seconds=900,
        remedy="the provider, or whoever holds the account: look at its status, its credit and its rate limits",
    ),
    "difference": Treatment(
        tries=0,
        first_seconds=0,
        longest_seconds=0,
        remedy="whoever wanted it to stop: compare the transcripts; claw-runner resume --on-difference go-on plays on",
    ),
    "sandbox": Treatment(
        tries=3,
        first_seconds=5,
        longest_seconds=120,
        remedy="whoever runs the engine: claw-runner doctor says what is wrong here",
    ),
    # The same job needs the same memory; but it may have been the machine's that ran out, which is free again by then.
    "oom": Treatment(
        tries=1,
        first_seconds=30,
        longest_seconds=30,
        remedy="whoever writes the policy: raise container.memory, or run fewer jobs at a time",
    ),
    "disk": Treatment(
        tries=2,
        first_seconds=60,
        longest_seconds=600,
        remedy="whoever runs this machine: make room where jobs and images lie (claw-runner clean)",
    ),
    "repository": Treatment(
        tries=2,
        first_seconds=10,
        longest_seconds=120,
        remedy="whoever owns the repository: can it be fetched from here, and does its base exist?",
    ),
    "checks": Treatment(
        tries=1,
        first_seconds=5,
        longest_seconds=60,
        remedy="whoever writes the task: run its checks by hand in its image",
    ),
    "config": Treatment(
        tries=0, first_seconds=0, longest_seconds=0, remedy="whoever writes the task or the policy: mend the file"
    ),
}

_CAUSE_OF: dict[Outcome, Cause] = {
    "config_error": "config",
    "provider_error": "provider",
    "sandbox_error": "sandbox",
    "checks_error": "checks",
    "repo_error": "repository",
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_BUG = "BUG:"


@dataclass(frozen=True, slots=True)
class Retry:
    """It is worth another attempt."""

    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Final:
    """It stays as it ended."""

    reason: str
    """Why it is not tried again, and who must act; "" for an outcome of the job's own."""


def verdict(ended: Ended, *, tries: int, limits: Limits, spread: float) -> Retry | Final:
    """Whether an attempt that ended so is followed by another.

    `tries` counts the attempts at the job that failed before this one, for whatever cause: one that fails now for
    another cause than before gets no new budget. `spread`, from 0 to 1, picks the wait between half and the whole, so
    that jobs which failed together do not come back together.
    """
    cause = cause_of(ended)
    if cause is None:
        return Final("a bug of claw-runner: it would come again" if is_bug(ended) else "")
    treatment = CAUSES[cause]
    if treatment.tries == 0:
        return Final(treatment.remedy)
    if tries >= min(treatment.tries, limits.retries):
        return Final(f"after {tries + 1} attempt{'s' if tries else ''}; {treatment.remedy}")
    return Retry(_wait(treatment, tries) * (1 + spread) / 2)


def cause_of(ended: Ended) -> Cause | None:
    """What failed us; None when nothing of ours or of the outside's did, or it was a bug."""
    if is_bug(ended) or ended.outcome not in _CAUSE_OF:
        return None
    return ended.cause or _CAUSE_OF[ended.outcome]


def ended_by(error: Exception) -> Ended:
    """How an attempt ended out of which this error came. What is none of the known failures is a bug of ours."""
    if isinstance(error, RunnerError):
        return Ended(outcome=error.outcome, reason=str(error), cause=error.cause)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return Ended(outcome="sandbox_error", reason=f"the disk is full: {error}", cause="disk")
    return Ended(outcome="sandbox_error", reason=f"{_BUG} {type(error).__name__}: {error}")


def is_bug(ended: Ended) -> bool:
    return ended.reason.startswith(_BUG)


def _wait(treatment: Treatment, tries: int) -> float:
    return min(treatment.longest_seconds, treatment.first_seconds * 2.0**tries)
