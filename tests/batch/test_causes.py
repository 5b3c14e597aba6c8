from __future__ import annotations

import errno
from typing import get_args

import pytest

from runner.batch.base import Ended, Limits
from runner.batch.causes import CAUSES, Final, Retry, cause_of, ended_by, is_bug, verdict
from runner.errors import EXIT_CODES, OUTCOMES, Cause, ConfigError, Outcome, OutOfMemory, RepoError

MANY = Limits(retries=100)
OURS: dict[Cause, Outcome] = {
    "provider": "provider_error",
    "sandbox": "sandbox_error",
    "oom": "sandbox_error",
    "disk": "sandbox_error",
    "repository": "repo_error",
    "checks": "checks_error",
}


def failed(cause: Cause) -> Ended:
    return Ended(outcome=OURS[cause], reason="so it was", cause=cause)


def waits(cause: Cause, *, limits: Limits = MANY, spread: float = 1.0) -> list[float]:
    """Before each further attempt at a job that fails every time."""
    found: list[float] = []
    while isinstance(answer := verdict(failed(cause), tries=len(found), limits=limits, spread=spread), Retry):
        found.append(answer.wait_seconds)
    return found


def test_every_cause_has_its_treatment() -> None:
    assert set(CAUSES) == set(get_args(Cause))
    assert all(treatment.remedy for treatment in CAUSES.values())


@pytest.mark.parametrize("cause", OURS)
def test_each_cause_has_a_budget_of_its_own(cause: Cause) -> None:
    assert len(waits(cause)) == CAUSES[cause].tries >= 1


@pytest.mark.parametrize("cause", OURS)
def test_waits_double_up_to_the_longest(cause: Cause) -> None:
    found, treatment = waits(cause), CAUSES[cause]
    assert found[0] == treatment.first_seconds
    for before, after in zip(found, found[1:], strict=False):
        assert after == min(2 * before, treatment.longest_seconds)


def test_waits_are_spread_between_half_and_the_whole() -> None:
    assert waits("provider", spread=0.0)[0] == waits("provider", spread=1.0)[0] / 2


def test_the_batch_limit_caps_every_budget() -> None:
    assert len(waits("provider", limits=Limits(retries=2))) == 2
    assert waits("provider", limits=Limits(retries=0)) == []


def test_a_cause_with_a_smaller_budget_gets_none_after_other_causes_used_it_up() -> None:
    assert isinstance(verdict(failed("oom"), tries=1, limits=MANY, spread=0), Final)
    assert isinstance(verdict(failed("provider"), tries=1, limits=MANY, spread=0), Retry)


@pytest.mark.parametrize("outcome", [outcome for outcome in OUTCOMES if not 20 <= EXIT_CODES[outcome] <= 23])
def test_what_is_the_jobs_own_is_never_tried_again(outcome: Outcome) -> None:
    assert isinstance(verdict(Ended(outcome=outcome, reason=""), tries=0, limits=MANY, spread=0), Final)


def test_passed_checks_are_final_although_the_model_failed_at_the_end() -> None:
    ended = Ended(outcome="solved", reason="all passed; the model failed", cause="provider")
    assert verdict(ended, tries=0, limits=MANY, spread=0) == Final("")


def test_a_cause_that_nobody_named_is_that_of_the_outcome() -> None:
    assert cause_of(Ended(outcome="checks_error", reason="1 of 2 checks gave no verdict")) == "checks"


def test_the_last_word_says_how_often_and_who_must_act() -> None:
    answer = verdict(failed("disk"), tries=2, limits=MANY, spread=0)
    assert isinstance(answer, Final)
    assert answer.reason.startswith("after 3 attempts; whoever runs this machine")


def test_an_error_of_ours_keeps_its_outcome_and_cause() -> None:
    ended = ended_by(OutOfMemory("container used 2 GiB"))
    assert (ended.outcome, ended.cause, ended.reason) == ("sandbox_error", "oom", "container used 2 GiB")
    assert ended_by(RepoError("no such base")).cause == "repository"
    assert ended_by(ConfigError("task.yaml:3: prompt: empty")).outcome == "config_error"


def test_a_full_disk_is_known_by_its_number() -> None:
    ended = ended_by(OSError(errno.ENOSPC, "No space left on device", "transcript.jsonl"))
    assert cause_of(ended) == "disk"
    assert isinstance(verdict(ended, tries=0, limits=MANY, spread=0), Retry)


def test_anything_else_is_a_bug_and_would_come_again() -> None:
    ended = ended_by(ZeroDivisionError("division by zero"))
    assert ended.reason == "BUG: ZeroDivisionError: division by zero"
    assert is_bug(ended)
    assert cause_of(ended) is None
    assert isinstance(verdict(ended, tries=0, limits=MANY, spread=0), Final)
