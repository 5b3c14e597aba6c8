"""The scheduler with real stores and real threads; what does a job is a plain function, as for every batch."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.batch.base import Attempt, BatchEvent, BatchSpec, Ended, Execute, Fenced, Lease, Limits, Planned, StoreError
from runner.batch.causes import CAUSES
from runner.batch.scheduler import Stop, Summary, run_batch
from runner.batch.store import Store
from runner.errors import Cancelled, Cause, Outcome, RepoError
from runner.ledger import Refusal
from runner.transcript import JobStarted

SOON = 60
"""Seconds within which something must happen; a slow machine is no failure."""
SOLVED = Ended(outcome="solved", reason="the check passed", turns=1)
PROVIDER = Ended(outcome="provider_error", reason="overloaded", cause="provider")


class Watch:
    """The clock of a store and its scheduler: it goes on by itself, and can be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def skip_waits(self, event: BatchEvent) -> None:
        self.ahead += event.wait_seconds


class Work:
    """A batch in a folder, and what happened in it."""

    def __init__(self, folder: Path, jobs: int, limits: Limits) -> None:
        self.folder = folder
        self.clock = Watch()
        self.stop = Stop()
        self.events: list[BatchEvent] = []
        spec = BatchSpec(id="b", source="issues.json", policy_file="ci", policy_sha256="0" * 64, limits=limits)
        plans = [_planned(number) for number in range(1, jobs + 1)]
        self.store = Store.create(folder, spec, plans, clock=self.clock)

    def run(self, execute: Execute, **more: Any) -> Summary:
        return run_batch(self.store, execute=execute, watch=self._see, stop=self.stop, clock=self.clock, **more)

    def again(self, execute: Execute) -> Summary:
        """A later run, as `claw-runner resume` does it."""
        self.stop = Stop()
        return self.run(execute)

    def of(self, *kinds: str) -> list[BatchEvent]:
        return [event for event in self.events if event.kind in kinds]

    def job(self, id: str) -> Any:
        return self.store.job(id)

    def _see(self, event: BatchEvent) -> None:
        self.events.append(event)
        self.clock.skip_waits(event)


def _planned(number: int) -> Planned:
    return Planned(
        id=f"job-{number}",
        key=f"{number:064}",
        title=f"Issue {number}",
        source=f"issues.json:{number}",
        task_file="/tasks/fix.yaml",
        task_sha256="0" * 64,
        task={"version": 1, "name": "fix"},
    )


@pytest.fixture
def batch(tmp_path: Path) -> Callable[..., Work]:
    """`batch(count, **limits)` makes one of so many jobs."""

    def make(count: int, /, **limits: Any) -> Work:
        return Work(tmp_path / "b", count, Limits(**limits))

    return make


def solve(attempt: Attempt) -> Ended:
    with attempt.slot():
        attempt.enter("running")
    attempt.enter("checking")
    return SOLVED


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_turn(*endings: Ended | Exception) -> Execute:
    """Each attempt ends as the next of these says; all after them are solved."""
    left, lock = list(endings), threading.Lock()

    def execute(attempt: Attempt) -> Ended:
        with lock:
            ending = left.pop(0) if left else SOLVED
        if isinstance(ending, Exception):
            raise ending
        return ending

    return execute


# -- concurrency


def test_every_job_is_done_once_and_ends(batch: Callable[..., Work]) -> None:
    work = batch(40, jobs=4, ahead=2)
    summary = work.run(solve)
    assert (summary.why, summary.left, summary.exit_code) == ("done", 0, 0)
    assert summary.counts.outcomes == {"solved": 40}
    assert Counter(event.job for event in work.of("job_started")) == {f"job-{n}": 1 for n in range(1, 41)}
    assert Counter(event.job for event in work.of("job_ended")) == {f"job-{n}": 1 for n in range(1, 41)}
    assert [work.events[0].kind, work.events[-1].kind] == ["batch_started", "batch_ended"]


def test_as_many_agents_work_at_a_time_as_the_limit_says_and_never_more(batch: Callable[..., Work]) -> None:
    together, lock = threading.Barrier(3), threading.Lock()
    working = most = 0

    def execute(attempt: Attempt) -> Ended:
        nonlocal working, most
        with attempt.slot():
            with lock:
                working += 1
                most = max(most, working)
            together.wait(SOON)
            with lock:
                working -= 1
        return SOLVED

    assert batch(12, jobs=3, ahead=2).run(execute).exit_code == 0
    assert most == 3


def test_the_next_sandbox_is_prepared_while_the_agents_work(batch: Callable[..., Work]) -> None:
    prepared = threading.Event()

    def execute(attempt: Attempt) -> Ended:
        if attempt.lease.job.number == 2:
            prepared.set()
        with attempt.slot():
            assert prepared.wait(SOON)
        return SOLVED

    assert batch(2, jobs=1, ahead=1).run(execute).exit_code == 0


def test_no_more_is_prepared_than_the_limit_says(batch: Callable[..., Work]) -> None:
    held: list[int] = []
    work = batch(9, jobs=2, ahead=1)

    def execute(attempt: Attempt) -> Ended:
        held.append(sum(work.store.counts().states.get(state, 0) for state in ("leased", "running", "checking")))
        return solve(attempt)

    work.run(execute)
    assert max(held) <= 3


def test_a_job_that_checks_leaves_its_slot_to_the_next_agent(batch: Callable[..., Work]) -> None:
    second_works = threading.Event()

    def execute(attempt: Attempt) -> Ended:
        with attempt.slot():
            if attempt.lease.job.number == 2:
                second_works.set()
        assert second_works.wait(SOON)
        return SOLVED

    assert batch(2, jobs=1, ahead=1).run(execute).exit_code == 0


def test_an_attempt_knows_its_folder_and_tells_what_happens_in_it(batch: Callable[..., Work]) -> None:
    work, folders = batch(1), []

    def execute(attempt: Attempt) -> Ended:
        folders.append(attempt.folder)
        attempt.watch(JobStarted(job={"id": attempt.lease.job.planned.id}))
        return SOLVED

    work.run(execute)
    assert folders == [work.folder / "job-1"]
    [told] = work.of("job_event")
    assert (told.job, told.attempt, told.event) == ("job-1", 1, JobStarted(job={"id": "job-1"}))


# -- stopping


def test_draining_lets_agents_end_and_starts_nothing_new(batch: Callable[..., Work]) -> None:
    work = batch(10, jobs=1, ahead=1)

    def execute(attempt: Attempt) -> Ended:
        with attempt.slot():
            work.stop.drain()
        with attempt.slot():
            return SOLVED

    summary = work.run(execute)
    assert (summary.why, summary.left, summary.exit_code) == ("stopped", 9, 130)
    assert summary.counts.states == {"ended": 1, "queued": 9}
    assert not work.of("job_retried")


def test_a_drained_batch_goes_on_where_it_was(batch: Callable[..., Work]) -> None:
    work = batch(10, jobs=2)
    done: list[str] = []

    def execute(attempt: Attempt) -> Ended:
        with attempt.slot():
            done.append(attempt.lease.job.planned.id)
            if len(done) == 4:
                work.stop.drain()
        return SOLVED

    work.run(execute)
    assert work.again(execute).exit_code == 0
    assert sorted(done) == sorted(f"job-{n}" for n in range(1, 11))


def test_stopping_at_once_leaves_running_jobs_to_be_resumed(batch: Callable[..., Work]) -> None:
    work = batch(5, jobs=2, ahead=1)
    both = threading.Barrier(2)

    def execute(attempt: Attempt) -> Ended:
        with attempt.slot():
            attempt.enter("running")
            if both.wait(SOON) == 0:
                work.stop.now(signal.SIGTERM)
            until(attempt.stopped)
            raise Cancelled

    summary = work.run(execute)
    assert (summary.why, summary.left, summary.exit_code) == ("stopped", 5, 143)
    assert summary.counts.states == {"queued": 5}
    assert work.again(solve).counts.outcomes == {"solved": 5}
    assert work.job("job-1").attempt == 2
    assert work.job("job-1").tries == 0


def test_a_stop_before_the_begin_begins_nothing(batch: Callable[..., Work]) -> None:
    work = batch(3)
    work.stop.now()
    assert work.run(solve).left == 3
    assert not work.of("job_started")


def test_another_process_can_ask_for_the_stop(batch: Callable[..., Work]) -> None:
    work = batch(4, jobs=1, ahead=0)

    def execute(attempt: Attempt) -> Ended:
        with attempt.slot():
            with Store.open(work.folder) as other:
                other.ask_to_stop("now")
            until(attempt.stopped)
            raise Cancelled

    summary = work.run(execute)
    assert (summary.why, summary.left, summary.exit_code) == ("stopped", 4, 143)


def test_a_stop_that_was_asked_for_holds_until_it_is_taken_back(batch: Callable[..., Work]) -> None:
    work = batch(2)
    work.store.ask_to_stop("drain")
    assert work.run(solve).left == 2
    assert not work.of("job_started")
    work.store.clear_stop()
    assert work.again(solve).left == 0


def test_a_signal_handler_may_ask_for_the_stop(batch: Callable[..., Work]) -> None:
    work = batch(3, jobs=1, ahead=0)

    def execute(attempt: Attempt) -> Ended:
        with attempt.slot():
            os.kill(os.getpid(), signal.SIGUSR1)
            until(lambda: work.stop.asked is not None)
        return SOLVED

    before = signal.signal(signal.SIGUSR1, lambda number, frame: work.stop.drain())
    try:
        assert work.run(execute).left == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_job_that_comes_out_cancelled_has_not_ended(batch: Callable[..., Work]) -> None:
    work = batch(1)

    def execute(attempt: Attempt) -> Ended:
        work.stop.now()
        return Ended(outcome="cancelled", reason="cancelled by SIGINT")

    assert work.run(execute).left == 1
    assert work.again(solve).counts.outcomes == {"solved": 1}


def test_a_cancelled_attempt_that_nobody_stopped_stops_the_batch(batch: Callable[..., Work]) -> None:
    def execute(attempt: Attempt) -> Ended:
        raise Cancelled

    assert batch(3, jobs=1, ahead=0).run(execute).why == "stopped"


def test_a_stop_that_comes_with_the_last_job_is_no_failure(batch: Callable[..., Work]) -> None:
    work = batch(1)

    def execute(attempt: Attempt) -> Ended:
        work.stop.drain()
        return SOLVED

    summary = work.run(execute)
    assert (summary.why, summary.exit_code) == ("done", 0)


# -- trying again


def test_what_failed_for_an_outside_cause_is_tried_again_after_a_wait(batch: Callable[..., Work]) -> None:
    work = batch(1, retries=2)
    summary = work.run(in_turn(PROVIDER, PROVIDER))
    assert (summary.exit_code, summary.counts.outcomes) == (0, {"solved": 1})
    first, second = work.of("job_retried")
    least = CAUSES["provider"].first_seconds / 2
    assert least <= first.wait_seconds <= 2 * least <= second.wait_seconds <= 4 * least
    assert (first.ended, first.attempt, second.attempt) == (PROVIDER, 1, 2)
    assert work.job("job-1").attempt == 3


def test_a_job_that_waits_keeps_no_other_from_its_turn(batch: Callable[..., Work]) -> None:
    work = batch(3, jobs=1, ahead=0)
    work.clock.skip_waits = lambda event: None  # type: ignore[method-assign]

    def execute(attempt: Attempt) -> Ended:
        if attempt.lease.job.number == 3:
            work.stop.drain()
        return PROVIDER if attempt.lease.job.number == 1 else SOLVED

    assert work.run(execute).counts.states == {"queued": 1, "ended": 2}
    assert work.job("job-1").tries == 1
    assert work.job("job-1").ended == PROVIDER


def test_after_the_last_try_the_failure_is_final(batch: Callable[..., Work]) -> None:
    work = batch(1, retries=1)
    summary = work.run(in_turn(PROVIDER, PROVIDER))
    assert (summary.exit_code, summary.counts.outcomes) == (20, {"provider_error": 1})
    assert "after 2 attempts" in work.of("job_ended")[0].text


@pytest.mark.parametrize("outcome", ["config_error", "unsolved", "no_change", "denied", "limit", "tampered"])
def test_what_the_job_itself_came_to_is_never_tried_again(outcome: Outcome, batch: Callable[..., Work]) -> None:
    cause: Cause | None = "config" if outcome == "config_error" else None
    work = batch(1)
    summary = work.run(in_turn(Ended(outcome=outcome, reason="it is so", cause=cause, turns=1)))
    assert summary.counts.outcomes == {outcome: 1}
    assert not work.of("job_retried")


def test_a_full_disk_is_waited_for(batch: Callable[..., Work]) -> None:
    work = batch(1)
    assert work.run(in_turn(OSError(errno.ENOSPC, "No space left on device"))).exit_code == 0
    assert work.of("job_retried")[0].ended == Ended(
        outcome="sandbox_error", reason="the disk is full: [Errno 28] No space left on device", cause="disk"
    )


def test_an_error_of_ours_out_of_an_attempt_is_its_outcome(batch: Callable[..., Work]) -> None:
    work = batch(1, retries=0)
    assert work.run(in_turn(RepoError("no such base"))).exit_code == 23


def test_a_bug_is_recorded_and_the_batch_goes_on(batch: Callable[..., Work]) -> None:
    work = batch(6)
    summary = work.run(in_turn(KeyError("image")))
    assert (summary.exit_code, summary.bugs) == (70, 1)
    assert summary.counts.outcomes == {"sandbox_error": 1, "solved": 5}
    [ended] = [event.ended for event in work.of("job_ended") if event.ended and event.ended.outcome != "solved"]
    assert ended is not None
    assert ended.reason == "BUG: KeyError: 'image'"
    [note] = work.of("note")
    assert "Traceback" in note.text
    assert not work.of("job_retried")


# -- leases


def _taken_over(work: Work) -> tuple[Store, Lease]:
    """Another runner finds the lease of the only job expired."""
    other = Store.open(work.folder, clock=work.clock)
    while True:
        work.clock.ahead += 3600
        # None: it was renewed in between.
        if lease := other.lease("another", seconds=1e9):
            return other, lease


def test_the_result_of_a_job_whose_lease_was_lost_is_not_written(batch: Callable[..., Work]) -> None:
    work = batch(1, jobs=1, ahead=0)

    def execute(attempt: Attempt) -> Ended:
        other, lease = _taken_over(work)
        with other:
            other.end(lease, Ended(outcome="unsolved", reason="a check failed"))
        return SOLVED

    assert work.run(execute).counts.outcomes == {"unsolved": 1}
    assert len(work.of("job_left")) == 1
    assert not work.of("job_ended")


def test_an_attempt_whose_lease_was_lost_cannot_go_on(batch: Callable[..., Work]) -> None:
    work, fenced = batch(1, jobs=1, ahead=0), []

    def execute(attempt: Attempt) -> Ended:
        other, lease = _taken_over(work)
        with other:
            try:
                attempt.enter("running")
            except Fenced:
                fenced.append("enter")
            try:
                attempt.ledger.reserve(least=1, most=1)
            finally:
                other.end(lease, SOLVED)
        return SOLVED

    work.run(execute)
    assert fenced == ["enter"]
    assert not work.of("job_ended", "note")


def test_an_attempt_is_told_that_its_lease_is_lost(batch: Callable[..., Work]) -> None:
    work = batch(1, jobs=1, ahead=0)

    def execute(attempt: Attempt) -> Ended:
        other, lease = _taken_over(work)
        with other:
            until(attempt.stopped)
            other.end(lease, SOLVED)
        raise Cancelled

    summary = work.run(execute, lease_seconds=0.3)
    assert (summary.why, summary.counts.outcomes) == ("done", {"solved": 1})


def test_leases_are_renewed_while_a_job_runs(batch: Callable[..., Work]) -> None:
    work = batch(1, jobs=1, ahead=0)

    def execute(attempt: Attempt) -> Ended:
        until(lambda: work.job("job-1").lease_until > attempt.lease.job.lease_until)
        return SOLVED

    assert work.run(execute, lease_seconds=3).exit_code == 0


def test_a_runner_that_stood_still_does_not_take_its_own_jobs_for_a_dead_ones(batch: Callable[..., Work]) -> None:
    work = batch(1, jobs=4)

    def execute(attempt: Attempt) -> Ended:
        work.clock.ahead += 3600
        until(lambda: work.job("job-1").lease_until > work.clock())
        return SOLVED

    assert work.run(execute).counts.outcomes == {"solved": 1}
    assert len(work.of("job_started")) == 1


def test_a_batch_is_not_over_while_another_runner_has_a_job(batch: Callable[..., Work]) -> None:
    work = batch(2, jobs=1)
    other = Store.open(work.folder, clock=work.clock)
    lease = other.lease("another", seconds=60)
    assert lease is not None

    def end_it_last() -> None:
        until(lambda: work.job("job-2").state == "ended")
        other.end(lease, SOLVED)

    with other, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(end_it_last)
        assert work.run(solve).counts.outcomes == {"solved": 2}
        ended.result()


def test_when_the_state_cannot_be_written_the_run_ends_and_no_thread_is_left(batch: Callable[..., Work]) -> None:
    work, before = batch(8, jobs=3), threading.active_count()

    def execute(attempt: Attempt) -> Ended:
        if attempt.lease.job.number == 3:
            work.store.close()
        return solve(attempt)

    with pytest.raises(StoreError):
        work.run(execute)
    assert threading.active_count() <= before
    work.store = Store.open(work.folder, clock=work.clock)
    work.clock.ahead += 3600
    assert work.again(solve).counts.outcomes == {"solved": 8}


# -- money


def _paying(attempt: Attempt) -> Ended:
    """Two requests of one cent each, for each of which four are set aside."""
    spent = 0
    with attempt.slot():
        for turn in range(2):
            answer = attempt.ledger.reserve(least=40_000, most=40_000)
            if isinstance(answer, Refusal):
                return Ended(outcome="limit", reason=f"{answer.limit} reached", cost_micro_usd=spent, turns=turn)
            attempt.ledger.settle(answer, spent=10_000)
            spent += 10_000
    return Ended(outcome="solved", reason="", cost_micro_usd=spent, turns=2)


def test_when_the_money_is_spent_the_rest_stays_queued(batch: Callable[..., Work]) -> None:
    work = batch(9, jobs=1, ahead=1, cost_usd=0.10)
    summary = work.run(_paying)
    assert summary.why == "batch.cost_usd"
    assert summary.exit_code == 13
    assert summary.totals.spent == 70_000
    assert summary.counts.outcomes == {"solved": 3, "limit": 1}
    assert summary.counts.states["queued"] == summary.left == 5


def test_with_more_money_the_batch_goes_on(batch: Callable[..., Work]) -> None:
    work = batch(5, jobs=1, ahead=1, cost_usd=0.06)
    assert work.run(_paying).left == 3
    work.store.change_limits(Limits(jobs=1, cost_usd=1.0))
    assert work.again(_paying).counts.outcomes == {"solved": 4, "limit": 1}


def test_a_job_that_was_refused_its_first_request_has_not_begun(batch: Callable[..., Work]) -> None:
    work = batch(3, jobs=1, ahead=0, cost_usd=0.03)
    summary = work.run(_paying)
    assert (summary.left, summary.exit_code, summary.counts.outcomes) == (3, 13, {})


def test_jobs_wait_for_money_that_is_only_set_aside(batch: Callable[..., Work]) -> None:
    work = batch(20, jobs=6, cost_usd=0.01 * 20 * 2 + 0.03)
    summary = work.run(_paying)
    assert (summary.totals.spent, summary.counts.outcomes) == (400_000, {"solved": 20})


# -- several runners, and death

RUNNER = """
import os, signal, sys, time
from pathlib import Path
from runner.batch.base import Ended
from runner.batch.scheduler import Stop, run_batch
from runner.batch.store import Store

folder, log, runners, dies_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
begun = 0

def execute(attempt):
    global begun
    with attempt.slot():
        attempt.enter("running")
        begun += 1
        if begun == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
    log.with_name(f"runner-{os.getpid()}").touch()
    while len(list(log.parent.glob("runner-*"))) < runners:
        time.sleep(0.01)
    with log.open("a") as file:
        file.write(f"{attempt.lease.job.planned.id} {os.getpid()}\\n")
    return Ended(outcome="solved", reason="", turns=1)

with Store.open(folder) as store:
    sys.exit(run_batch(store, execute=execute, watch=lambda event: None, stop=Stop()).exit_code)
"""


def _runner(work: Work, log: Path, *, of: int = 1, dies_at: int = 0) -> subprocess.Popen[bytes]:
    """One of so many, each of which ends its first job when all have begun one."""
    return subprocess.Popen([sys.executable, "-c", RUNNER, str(work.folder), str(log), str(of), str(dies_at)])


def test_several_runners_do_each_job_once(batch: Callable[..., Work], tmp_path: Path) -> None:
    work, log = batch(60, jobs=2), tmp_path / "log"
    runners = [_runner(work, log, of=2) for _ in range(2)]
    assert [runner.wait(SOON) for runner in runners] == [0, 0]
    done = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert done == {f"job-{n}": 1 for n in range(1, 61)}
    assert work.store.counts().outcomes == {"solved": 60}


def test_after_a_killed_runner_the_rest_is_done_and_what_had_ended_is_not(
    batch: Callable[..., Work], tmp_path: Path
) -> None:
    work, log = batch(30, jobs=2), tmp_path / "log"
    killed = _runner(work, log, dies_at=12)
    assert killed.wait(SOON) == -signal.SIGKILL
    ended = {job.planned.id for job in work.store.jobs(states=("ended",))}
    held = {job.planned.id for job in work.store.jobs(states=("leased", "running", "checking"))}
    assert 9 <= len(ended) <= 11
    assert 1 <= len(held) <= 3
    assert work.run(solve).counts.outcomes == {"solved": 30}
    resumed = Counter(event.job for event in work.of("job_started"))
    assert resumed == {f"job-{n}": 1 for n in range(1, 31) if f"job-{n}" not in ended}
    assert {event.job: event.attempt for event in work.of("job_started") if event.job in held} == dict.fromkeys(held, 2)


# -- the exit code


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (("solved", "changed"), 0),
        (("solved", "config_error"), 2),
        (("config_error", "no_change"), 11),
        (("no_change", "unsolved"), 10),
        (("unsolved", "denied"), 12),
        (("denied", "limit"), 13),
        (("limit", "tampered"), 14),
        (("tampered", "repo_error"), 23),
        (("repo_error", "sandbox_error"), 21),
    ],
)
def test_a_batch_exits_with_its_worst_jobs_code(
    outcomes: tuple[Outcome, ...], code: int, batch: Callable[..., Work]
) -> None:
    work = batch(3, retries=0)
    assert work.run(in_turn(*(Ended(outcome=outcome, reason="", turns=1) for outcome in outcomes))).exit_code == code


def test_jobs_that_ended_before_count_for_the_exit_code(batch: Callable[..., Work]) -> None:
    work = batch(2, jobs=1, ahead=0)

    def execute(attempt: Attempt) -> Ended:
        work.stop.drain()
        return Ended(outcome="unsolved", reason="a check failed")

    work.run(execute)
    assert work.again(solve).exit_code == 10


def test_jobs_begin_no_faster_than_the_limit_says(batch: Callable[..., Work]) -> None:
    work = batch(3, jobs=3, jobs_per_minute=120)
    work.run(solve)
    begun = [event.time for event in work.of("job_started")]
    assert begun[2] - begun[0] >= 0.9
