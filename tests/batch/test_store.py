from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.batch.base import Counts, Ended, Fenced, Holder, Lease, Limits, Planned, State, Totals
from runner.batch.store import FILE, Store
from runner.errors import ConfigError
from runner.ledger import Reservation
from runner.sandbox import owner as owners
from tests.batch.stored import EVER, LOST, SOLVED, Clock, make, planned, spec, take

UNSOLVED = Ended(outcome="unsolved", reason="check pytest failed")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    with make(tmp_path / "b", clock=clock) as store:
        yield store


def ids(store: Store) -> list[str]:
    return [row.planned.id for row in store.jobs()]


# --- making and opening


def test_what_was_planned_comes_back_to_the_letter(tmp_path: Path) -> None:
    odd = planned(
        1,
        title="a lone \ud800 surrogate",
        task_file="/tasks/\udcff.yaml",
        values={"issue": {"body": "null \0, \ud800, ä", "labels": ["bug"], "number": 1, "closed": None}},
        notes=("an HTML comment was taken out",),
    )
    asked = replace(spec(cost_usd=1.5, jobs=7, tokens_per_minute=9), on_difference="stop", engine_url="unix:///x")
    Store.create(tmp_path / "b", asked, [odd]).close()
    with Store.open(tmp_path / "b") as store:
        assert store.spec == asked
        assert take(store).job.planned == store.job("job-1").planned == odd
        [row] = store.jobs(whole=False)
        assert row.planned.title == "a lone \ufffd surrogate"


def test_a_key_that_comes_twice_is_one_job(tmp_path: Path) -> None:
    jobs = [planned(1), planned(2, key="key-1"), planned(3)]
    with Store.create(tmp_path / "b", spec(), jobs) as store:
        assert ids(store) == ["job-1", "job-3"]
        assert [row.number for row in store.jobs()] == [1, 2]


def test_two_jobs_of_one_id_are_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"issues.json:2: .*'job-1'.* issues.json:1 "):
        Store.create(tmp_path / "b", spec(), [planned(1), planned(2, id="job-1")])
    assert list((tmp_path / "b").iterdir()) == []


def test_a_plan_that_fails_leaves_no_batch(tmp_path: Path) -> None:
    def jobs() -> Iterator[Planned]:
        yield planned(1)
        raise ConfigError("issues.json:2: no title")

    with pytest.raises(ConfigError, match="no title"):
        Store.create(tmp_path / "b", spec(), jobs())
    assert list((tmp_path / "b").iterdir()) == []


def test_a_batch_is_not_made_over_another(store: Store) -> None:
    with pytest.raises(ConfigError, match=f"there is a batch already; go on with: claw-runner resume {store.folder}$"):
        make(store.folder)
    assert ids(store) == ["job-1", "job-2", "job-3"]


def test_a_batch_without_jobs_has_nothing_to_do(tmp_path: Path) -> None:
    with make(tmp_path / "b", 0) as store:
        assert store.lease("a", seconds=1) is None
        assert store.next_at() is None
        assert store.counts() == Counts(states={}, outcomes={})
        assert store.totals() == Totals(spent=0, reserved=0, doubtful=0, tokens=0, turns=0)


def test_changed_limits_stay(tmp_path: Path) -> None:
    with make(tmp_path / "b", cost_usd=1.0) as store:
        store.change_limits(Limits(jobs=9))
        assert store.spec.limits.jobs == 9
    with Store.open(tmp_path / "b") as store:
        assert store.spec.limits == Limits(jobs=9)


# --- files that cannot be used: one line, with what to do


def _refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        Store.open(folder)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"{folder / FILE}: ")
    return str(raised.value)


def test_a_folder_without_a_batch_says_so(tmp_path: Path) -> None:
    assert "there is no such batch" in _refusal(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\0" + b"\0" * 200, b"name: fix\n" * 2000])
def test_another_file_is_not_taken_for_a_batch(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert "damaged" in _refusal(tmp_path) or "not the state of a batch" in _refusal(tmp_path)


def test_a_database_of_something_else_is_not_taken_for_a_batch(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("CREATE TABLE jobs (number)")
    assert "not the state of a batch" in _refusal(tmp_path)


def test_another_format_is_named(store: Store) -> None:
    store.close()
    with closing(sqlite3.connect(store.folder / FILE)) as db:
        db.execute("PRAGMA user_version = 7")
    assert "has format 7, this claw-runner knows 1; use the version that made it" in _refusal(store.folder)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_damage_anywhere_is_found_when_it_is_opened(tmp_path: Path, part: float) -> None:
    make(tmp_path / "b", 300).close()
    path = tmp_path / "b" / FILE
    data = bytearray(path.read_bytes())
    middle = int(len(data) * part) // 4096 * 4096
    data[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    assert "damaged" in _refusal(tmp_path / "b")


def test_a_file_that_was_cut_short_is_found_when_it_is_opened(tmp_path: Path) -> None:
    make(tmp_path / "b", 300).close()
    os.truncate(tmp_path / "b" / FILE, 40_960)
    assert "damaged" in _refusal(tmp_path / "b")


@pytest.mark.parametrize("text", ["{}", "{", "[]", '{"id": "b", "limits": {"no": 1}}'])
def test_a_spec_that_cannot_be_read_is_damage(store: Store, text: str) -> None:
    store.close()
    with closing(sqlite3.connect(store.folder / FILE)) as db:
        db.execute("UPDATE batch SET spec = ?", (text,))
        db.commit()
    assert "damaged: its spec cannot be read" in _refusal(store.folder)


@contextmanager
def _nobody() -> Iterator[None]:
    """Not root, who may write everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Everybody may look into it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_batch_that_may_only_be_read_says_so(open_folder: Path) -> None:
    make(open_folder / "b").close()
    (open_folder / "b" / FILE).chmod(0o444)
    (open_folder / "b").chmod(0o555)
    with _nobody():
        assert "cannot be written" in _refusal(open_folder / "b")
    (open_folder / "b").chmod(0o755)


def test_a_folder_that_cannot_be_written_says_so(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with (
        _nobody(),
        pytest.raises(ConfigError, match="cannot make a batch here: .*Permission denied.*; free the disk or"),
    ):
        make(open_folder / "b")
    open_folder.chmod(0o755)


def test_a_file_in_place_of_the_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("")
    with pytest.raises(ConfigError, match="cannot make a batch here"):
        make(tmp_path / "b")


FULL = """
import resource, sys
from pathlib import Path
from runner.batch.base import StoreError
from runner.batch.store import Store
from tests.batch.stored import make, take, EVER

store = make(Path(sys.argv[1]), 3)
first = take(store)
# No file may grow beyond what the journal has by now, which is what a full disk looks like to us.
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
for attempt in range(3):
    try:
        for number in range(100):
            store.effect(first, f"{attempt}-{number}", "x" * 500)
        raise SystemExit("it was not full")
    except StoreError as error:
        print(error)
        print(error.outcome, error.cause)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.advance(first, "running")
assert store.job("job-1").state == "running"
assert take(store).job.number == 2
"""


def test_a_full_disk_is_one_line_and_the_batch_goes_on_when_there_is_space_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, tmp_path / "b"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    message, what = done.stdout.splitlines()[:2]
    assert message.startswith(f"{tmp_path / 'b' / FILE}: ")
    assert message.endswith(f"then go on with: claw-runner resume {tmp_path}/b")
    assert what == "sandbox_error disk"


# --- leases


def test_jobs_are_leased_in_order_once_each(store: Store) -> None:
    leases = [take(store) for _ in range(3)]
    assert [lease.job.planned.id for lease in leases] == ["job-1", "job-2", "job-3"]
    assert [(lease.job.attempt, lease.fence, lease.job.state) for lease in leases] == [(1, 1, "leased")] * 3
    assert store.lease("a", seconds=EVER) is None


def test_a_job_that_failed_waits_until_its_time_and_comes_before_later_ones(store: Store, clock: Clock) -> None:
    store.requeue(take(store), LOST, not_before=clock.now + 60)
    assert take(store).job.planned.id == "job-2"
    clock.now += 60
    again = take(store)
    assert (again.job.planned.id, again.job.attempt, again.job.tries) == ("job-1", 2, 1)
    assert again.job.ended == LOST
    assert take(store).job.planned.id == "job-3"


def test_a_clock_that_is_set_back_makes_no_job_wait_for_it(store: Store, clock: Clock) -> None:
    store.requeue(take(store), LOST, not_before=clock.now + 60)
    clock.now -= 86_400
    assert take(store).job.planned.id == "job-1"


def test_a_job_that_was_left_goes_on_next_and_has_failed_no_try(store: Store) -> None:
    store.release(take(store))
    again = take(store)
    assert (again.job.planned.id, again.job.attempt, again.job.tries, again.job.ended) == ("job-1", 2, 0, None)


def test_an_expired_lease_goes_to_another(store: Store, clock: Clock) -> None:
    lost = take(store, "a", seconds=60)
    clock.now += 60
    found = take(store, "b")
    assert (found.job.planned.id, found.job.owner, found.fence) == ("job-1", "b", lost.fence + 1)


def test_a_renewed_lease_does_not_expire(store: Store, clock: Clock) -> None:
    lease = take(store, "a", seconds=60)
    clock.now += 50
    store.renew(lease, seconds=60)
    clock.now += 50
    assert take(store, "b").job.planned.id == "job-2"


def test_an_expired_lease_that_nobody_took_is_still_good(store: Store, clock: Clock) -> None:
    lease = take(store, "a", seconds=60)
    clock.now += 100
    store.end(lease, SOLVED)
    assert store.job("job-1").state == "ended"


def test_a_dead_runner_holds_nothing(store: Store, clock: Clock) -> None:
    name = subprocess.run(
        [sys.executable, "-c", "from runner.sandbox import owner; print(owner.mine())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()
    dead = take(store, name)
    assert store.next_at() == clock.now
    assert store.runners() == []
    found = take(store, owners.mine())
    assert (found.job.planned.id, found.fence) == ("job-1", 2)
    # Who is alive, or is another machine's, keeps what it has.
    assert [take(store, owner).job.planned.id for owner in (owners.mine(), "of another machine")] == ["job-2", "job-3"]
    assert store.lease("c", seconds=EVER) is None
    with pytest.raises(Fenced):
        store.end(dead, SOLVED)


WRITES: dict[str, Callable[[Store, Lease], object]] = {
    "renew": lambda store, lease: store.renew(lease, seconds=1),
    "advance": lambda store, lease: store.advance(lease, "running"),
    "end": lambda store, lease: store.end(lease, SOLVED),
    "requeue": lambda store, lease: store.requeue(lease, LOST, not_before=0),
    "release": lambda store, lease: store.release(lease),
    "effect": lambda store, lease: store.effect(lease, "branch", "other"),
    "recover": lambda store, lease: store.recover(lease, spent=9, doubtful=9),
    "reserve": lambda store, lease: store.ledger(lease).reserve(least=1, most=1),
}
LOSSES: dict[str, Callable[[Store, Lease, Clock], object]] = {
    "taken": lambda store, lease, clock: (setattr(clock, "now", clock.now + 60), take(store, "b")),
    "ended": lambda store, lease, clock: store.end(lease, SOLVED),
    "requeued": lambda store, lease, clock: store.requeue(lease, LOST, not_before=0),
    "released": lambda store, lease, clock: store.release(lease),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("loss", LOSSES)
def test_who_lost_a_lease_writes_nothing(store: Store, clock: Clock, loss: str, write: str) -> None:
    lease = take(store, "a", seconds=60)
    store.effect(lease, "branch", "claw/job-1")
    LOSSES[loss](store, lease, clock)
    before = (store.job("job-1"), store.totals())
    with pytest.raises(Fenced, match="'job-1'"):
        WRITES[write](store, lease)
    assert (store.job("job-1"), store.totals()) == before


@pytest.mark.parametrize(
    ("steps", "wrong"),
    [
        ((), "checking"),
        ((), "queued"),
        ((), "ended"),
        (("running",), "leased"),
        (("running", "checking"), "leased"),
        (("running", "checking", "running"), "ended"),
    ],
)
def test_a_job_goes_only_where_its_state_allows(store: Store, steps: tuple[State, ...], wrong: State) -> None:
    lease = take(store)
    for step in steps:
        store.advance(lease, step)
        store.advance(lease, step)
    with pytest.raises(AssertionError):
        store.advance(lease, wrong)
    assert store.job("job-1").state == ("leased", *steps)[-1]


# --- what happens to a job once


def test_the_first_value_of_an_effect_stays(store: Store) -> None:
    lease = take(store)
    assert store.effect(lease, "branch", "claw/job-1") == "claw/job-1"
    assert store.effect(lease, "branch", "claw/job-1-again") == "claw/job-1"
    assert store.effect(lease, "pull request", "7") == "7"
    other = take(store)
    assert store.effect(other, "branch", "claw/job-2") == "claw/job-2"
    store.release(lease)
    assert store.effect(take(store), "branch", "claw/x") == "claw/job-1"


def test_a_job_that_ended_is_done_again_only_when_a_person_asks(store: Store) -> None:
    for ended in (SOLVED, UNSOLVED, LOST):
        store.end(take(store), ended)
    assert store.lease("a", seconds=EVER) is None
    assert store.again(["unsolved", "sandbox_error"], fresh=False) == 2
    assert store.again(["unsolved", "sandbox_error"], fresh=False) == 0
    again = take(store)
    assert (again.job.planned.id, again.job.attempt, again.job.fresh) == ("job-2", 2, False)
    assert store.again(ids=["job-1", "job-2"], fresh=True) == 1
    assert take(store).job.fresh


def test_an_unknown_job_is_named(store: Store) -> None:
    for wrong in (lambda: store.job("job-9"), lambda: store.again(ids=["job-1", "job-9"], fresh=True)):
        with pytest.raises(ConfigError, match="has no job 'job-9'; claw-runner status lists them"):
            wrong()


def test_a_retried_job_has_all_its_tries_again(store: Store) -> None:
    store.requeue(take(store), LOST, not_before=0)
    store.end(take(store), LOST)
    store.again(ids=["job-1"], fresh=False)
    assert store.job("job-1").tries == 0


def test_a_fresh_attempt_stays_to_be_made_until_it_has_begun(store: Store) -> None:
    store.end(take(store), SOLVED)
    store.again(ids=["job-1"], fresh=True)
    store.release(take(store))
    begun = take(store)
    assert begun.job.fresh
    store.advance(begun, "running")
    store.release(begun)
    assert not take(store).job.fresh


# --- looking


def test_jobs_are_found_by_state_and_outcome(store: Store) -> None:
    store.end(take(store), SOLVED)
    store.requeue(take(store), UNSOLVED, not_before=0)
    assert [row.number for row in store.jobs(states=["queued"])] == [2, 3]
    assert [row.number for row in store.jobs(outcomes=["solved", "unsolved"])] == [1]
    assert [row.number for row in store.jobs(states=["queued", "ended"], outcomes=["solved"])] == [1]
    assert list(store.jobs(states=[])) == []
    assert store.job("job-1").ended == SOLVED


def test_many_jobs_come_in_order_while_they_change(tmp_path: Path) -> None:
    with make(tmp_path / "b", 1201) as store:
        seen = []
        for row in store.jobs(whole=False):
            seen.append(row.number)
            if row.number % 400 == 0:
                store.end(take(store), SOLVED)
        assert seen == list(range(1, 1202))


def test_a_short_row_has_what_a_list_shows(store: Store) -> None:
    store.end(take(store), SOLVED)
    row = next(store.jobs(whole=False))
    assert (row.planned.id, row.planned.title, row.planned.source) == ("job-1", "Job 1", "issues.json:1")
    assert (row.planned.task, row.planned.values, row.ended) == ({}, {}, SOLVED)


def test_counts_and_totals_add_up(store: Store) -> None:
    lease = take(store)
    ledger = store.ledger(lease)
    for _ in range(2):
        money = ledger.reserve(least=10, most=100)
        assert isinstance(money, Reservation)
    ledger.settle(money, spent=30, doubtful=5)
    store.requeue(take(store), LOST, not_before=0)
    assert store.counts() == Counts(states={"queued": 2, "leased": 1}, outcomes={})
    assert store.totals() == Totals(spent=30, reserved=100, doubtful=5, tokens=7, turns=1)
    store.end(take(store), SOLVED)
    assert store.counts() == Counts(states={"queued": 1, "leased": 1, "ended": 1}, outcomes={"solved": 1})
    assert store.counts().jobs == 3
    assert (store.totals().tokens, store.totals().turns) == (30, 2)


def test_the_next_time_is_when_a_job_may_be_taken(store: Store, clock: Clock) -> None:
    assert store.next_at() == 0
    for seconds in (50, 40):
        take(store, "a", seconds=seconds)
    store.requeue(take(store), LOST, not_before=clock.now + 45)
    assert store.next_at() == clock.now + 40
    clock.now += 40
    store.end(take(store, "a"), SOLVED)
    assert store.next_at() == clock.now + 5


def test_runners_are_those_who_hold_leases(store: Store, clock: Clock) -> None:
    take(store, "a", seconds=10)
    take(store, "a", seconds=20)
    last = take(store, "b", seconds=30)
    assert store.runners() == [
        Holder(owner="a", jobs=2, lease_until=clock.now + 20),
        Holder(owner="b", jobs=1, lease_until=clock.now + 30),
    ]
    clock.now += 15
    store.end(last, SOLVED)
    assert store.runners() == [Holder(owner="a", jobs=1, lease_until=clock.now + 5)]


def test_a_stop_reaches_every_runner_and_now_outdoes_drain(store: Store) -> None:
    with Store.open(store.folder) as other:
        assert other.asked_to_stop() is None
        store.ask_to_stop("drain")
        assert other.asked_to_stop() == "drain"
        store.ask_to_stop("now")
        store.ask_to_stop("drain")
        assert other.asked_to_stop() == "now"
        other.clear_stop()
        assert store.asked_to_stop() is None


# --- whatever happens, in whatever order


@dataclass
class Known:
    """What a job must look like."""

    state: State = "queued"
    attempt: int = 0
    fence: int = 0
    owner: str = ""
    lease_until: float = 0.0
    not_before: float = 0.0
    tries: int = 0
    fresh: bool = False
    ended: Ended | None = None
    effect: str | None = None

    def leave(self, state: State, *, not_before: float = 0.0, failed: int = 0) -> None:
        self.state, self.owner, self.not_before, self.tries = state, "", not_before, self.tries + failed


JOBS = 4
anywhere = st.sampled_from(["x", "y"])


class Owners(RuleBasedStateMachine):
    """Several owners work on one batch through two stores, as two processes would, and are late at will."""

    leases = Bundle("leases")

    @initialize()
    def make(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        first = make(Path(self.folder.name) / "b", JOBS, clock=self.clock)
        self.stores = {"x": first, "y": Store.open(first.folder, clock=self.clock)}
        self.jobs = {number: Known() for number in range(1, JOBS + 1)}
        self.ends = dict.fromkeys(self.jobs, 0)
        self.wishes = dict.fromkeys(self.jobs, 0)

    def teardown(self) -> None:
        for store in self.stores.values():
            store.close()
        self.folder.cleanup()

    def leasable(self) -> list[int]:
        now = self.clock.now
        lost = [number for number, job in self.jobs.items() if job.owner and job.lease_until <= now]
        return lost + [number for number, job in self.jobs.items() if job.state == "queued" and job.not_before <= now]

    @rule(seconds=st.sampled_from([1, 10, 100]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(target=leases, at=anywhere, owner=st.sampled_from("abc"), seconds=st.sampled_from([5, 50]))
    def lease(self, at: str, owner: str, seconds: int) -> Lease | None:
        expected = self.leasable()
        lease = self.stores[at].lease(owner, seconds=seconds)
        assert [lease.job.number if lease else None] == (expected[:1] or [None])
        if lease:
            job = self.jobs[lease.job.number]
            job.attempt, job.fence, job.state = job.attempt + 1, job.fence + 1, "leased"
            job.owner, job.lease_until, job.not_before = owner, self.clock.now + seconds, 0.0
            assert lease.fence == job.fence
        return lease

    def write(self, lease: Lease | None, write: Callable[[Lease], object]) -> Known | None:
        """Try it. Returns the job when it had to take effect."""
        if lease is None:
            return None
        job = self.jobs[lease.job.number]
        if job.fence == lease.fence and job.owner:
            write(lease)
            return job
        with pytest.raises(Fenced):
            write(lease)
        return None

    @rule(at=anywhere, lease=leases, seconds=st.sampled_from([5, 50]))
    def renew(self, at: str, lease: Lease | None, seconds: int) -> None:
        if job := self.write(lease, lambda lease: self.stores[at].renew(lease, seconds=seconds)):
            job.lease_until = self.clock.now + seconds

    @rule(at=anywhere, lease=leases)
    def advance(self, at: str, lease: Lease | None) -> None:
        now = self.jobs[lease.job.number].state if lease else "queued"
        to: State = "checking" if now == "running" else "running"
        if job := self.write(lease, lambda lease: self.stores[at].advance(lease, to)):
            job.state, job.fresh = to, job.fresh and to != "running"

    @rule(at=anywhere, lease=leases, ended=st.sampled_from([SOLVED, UNSOLVED, LOST]))
    def end(self, at: str, lease: Lease | None, ended: Ended) -> None:
        if job := self.write(lease, lambda lease: self.stores[at].end(lease, ended)):
            job.leave("ended")
            job.ended = ended
            assert lease is not None
            self.ends[lease.job.number] += 1

    @rule(at=anywhere, lease=leases, wait=st.sampled_from([0, 20]))
    def requeue(self, at: str, lease: Lease | None, wait: int) -> None:
        until = self.clock.now + wait
        if job := self.write(lease, lambda lease: self.stores[at].requeue(lease, LOST, not_before=until)):
            job.leave("queued", not_before=until, failed=1)
            job.ended = LOST

    @rule(at=anywhere, lease=leases)
    def release(self, at: str, lease: Lease | None) -> None:
        if job := self.write(lease, self.stores[at].release):
            job.leave("queued")

    @rule(at=anywhere, lease=leases, value=st.sampled_from("pq"))
    def effect(self, at: str, lease: Lease | None, value: str) -> None:
        recorded: list[str] = []
        if job := self.write(lease, lambda lease: recorded.append(self.stores[at].effect(lease, "branch", value))):
            job.effect = job.effect or value
            assert recorded == [job.effect]

    @precondition(lambda self: any(job.state == "ended" for job in self.jobs.values()))
    @rule(at=anywhere, fresh=st.booleans())
    def again(self, at: str, fresh: bool) -> None:
        chosen = [number for number, job in self.jobs.items() if job.ended == UNSOLVED and job.state == "ended"]
        assert self.stores[at].again(["unsolved"], fresh=fresh) == len(chosen)
        for number in chosen:
            job = self.jobs[number]
            job.state, job.not_before, job.tries, job.fresh = "queued", 0.0, 0, fresh
            self.wishes[number] += 1

    @invariant()
    def all_is_as_known(self) -> None:
        for store in self.stores.values():
            rows = {
                row.number: Known(
                    **{name: getattr(row, name) for name in Known.__match_args__[:-1]},
                    effect=self.jobs[row.number].effect,
                )
                for row in store.jobs()
            }
            for row in rows.values():
                # When nobody has it, the end of its last lease means nothing.
                row.lease_until = row.lease_until if row.owner else 0.0
            assert rows == {
                number: replace(job, lease_until=job.lease_until if job.owner else 0.0)
                for number, job in self.jobs.items()
            }

    @invariant()
    def each_job_ends_once_for_each_wish(self) -> None:
        for number, ends in self.ends.items():
            assert ends - self.wishes[number] == (self.jobs[number].state == "ended")

    @invariant()
    def the_next_time_is_right(self) -> None:
        times = [job.not_before for job in self.jobs.values() if job.state == "queued"]
        times += [job.lease_until for job in self.jobs.values() if job.owner]
        assert self.stores["x"].next_at() == min(times, default=None)


TestOwners = Owners.TestCase
TestOwners.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


# --- kills


def killed(what: str, folder: Path) -> None:
    command = [sys.executable, "-m", "tests.batch.killed", what, folder, "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_batch_that_is_killed_while_it_is_made_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    killed("creation", tmp_path)


def test_runners_that_are_killed_lose_no_job_and_end_none_twice(tmp_path: Path) -> None:
    killed("working", tmp_path)
