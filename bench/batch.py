"""What a batch costs by itself: `python bench/batch.py [--jobs 10000]`. CPU of scheduling and state, and of a resume.

Everything is real but the sandbox: in its place each job starts one process (`true`) and waits for it. A job is leased,
takes a slot, enters its states, sets money aside and settles it for each of its requests, and ends. CPU is that of this
process, with all its threads, without its children. Starting a process is measured in the same way, by the same number
of threads, with nothing around it, and taken off. Then the same batch is worked on by another process that is ended by
SIGKILL when half of it is done, and opened again. Targets are of the machine that they were set on; see the columns.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from runner.batch.base import Attempt, BatchSpec, Ended, Limits, Planned  # noqa: E402  (found beside this folder)
from runner.batch.scheduler import LEASE_SECONDS, Stop, run_batch  # noqa: E402
from runner.batch.store import Store  # noqa: E402
from runner.ledger import Reservation  # noqa: E402
from runner.sandbox import owner  # noqa: E402

REQUESTS = 3
"""To the model, in each job."""
BODY = "Steps to reproduce, what was expected, what came instead. " * 35
"""Of each job's issue: 2 kB."""
MOST_CPU_MS = 2.0
MOST_RESUME_SECONDS = 2.0


class Cost(NamedTuple):
    cpu: float
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--die-in", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lease-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.die_in:
        die_half_way(options.die_in, options.jobs)
    if options.lease_in:
        with Store.open(options.lease_in) as store:
            lease_one(store)
        return
    with tempfile.TemporaryDirectory() as folder:
        whole_batch(Path(folder), options.jobs, options.at_once)
        resume(Path(folder), options.jobs, options.at_once)


def whole_batch(folder: Path, jobs: int, at_once: int) -> None:
    before, started = peak_mb(), now()
    with create(folder / "whole", jobs, at_once) as store:
        made = since(started)
        spawn = spawning(jobs, at_once)
        started = now()
        summary = run_batch(store, execute=job_with_process, watch=lambda event: None, stop=Stop())
        cost = since(started)
        assert summary.exit_code == 0, summary
        assert summary.totals.spent == jobs * REQUESTS * 1_234, summary
    own = (cost.cpu - spawn.cpu) / jobs * 1000
    print(f"{jobs} jobs, {at_once} at a time, {REQUESTS} requests each")
    print(f"{'  planned and written':<44}{made.cpu / jobs * 1000:9.3f} ms CPU a job{made.wall:9.2f} s wall")
    print(f"{'  done, with a process each':<44}{cost.cpu / jobs * 1000:9.3f} ms CPU a job{cost.wall:9.2f} s wall")
    print(f"{'  of it starting the processes':<44}{spawn.cpu / jobs * 1000:9.3f} ms CPU a job{spawn.wall:9.2f} s wall")
    print(f"{'  scheduling and state':<44}{own:9.3f} ms CPU a job   {verdict(own, MOST_CPU_MS)}")
    print(f"{'  more memory than before it':<44}{peak_mb() - before:9.1f} MB")


def resume(folder: Path, jobs: int, at_once: int) -> None:
    """Of a batch whose runner was killed when half of it was done."""
    create(folder / "half", jobs, at_once).close()
    half = subprocess.run(
        [sys.executable, __file__, "--die-in", str(folder / "half"), "--jobs", str(jobs)], check=False
    )
    assert half.returncode == -signal.SIGKILL, half
    started = now()
    subprocess.run([sys.executable, __file__, "--lease-in", str(folder / "half")], check=True)
    anew = since(started)
    started = now()
    with Store.open(folder / "half") as store:
        lease_one(store)
        cost = since(started)
        done = store.counts().states["ended"]
        assert jobs // 2 <= done < jobs, store.counts()
        summary = run_batch(store, execute=job_without_process, watch=lambda event: None, stop=Stop())
        assert (summary.exit_code, summary.left) == (0, 0), summary
        assert summary.totals.spent >= jobs * REQUESTS * 1_234, summary
    print(f"killed when {done} of {jobs} were done")
    shown = verdict(cost.wall, MOST_RESUME_SECONDS)
    print(f"{'  opened again, first job leased':<44}{cost.wall:9.3f} s wall          {shown}")
    shown = verdict(anew.wall, MOST_RESUME_SECONDS)
    print(f"{'  with the start of a new process':<44}{anew.wall:9.3f} s wall          {shown}")


def lease_one(store: Store) -> None:
    """The first thing that a resume does; and back again."""
    lease = store.lease(owner.mine(), seconds=LEASE_SECONDS)
    assert lease is not None
    store.release(lease)


def create(folder: Path, jobs: int, at_once: int) -> Store:
    spec = BatchSpec(
        id=folder.name,
        source="bench",
        policy_file="ci",
        policy_sha256="0" * 64,
        limits=Limits(jobs=at_once, cost_usd=1_000_000.0),
    )
    return Store.create(folder, spec, planned(jobs))


def planned(jobs: int) -> Iterator[Planned]:
    for number in range(1, jobs + 1):
        yield Planned(
            id=f"issue-{number}",
            key=f"{number:064}",
            title=f"Issue {number}",
            source=f"issues.json:{number}",
            task_file="/tasks/fix.yaml",
            task_sha256="0" * 64,
            task={"version": 1, "name": "bench", "prompt": "{{ issue.title }}\n{{ issue.body }}", "repo": {"url": "."}},
            values={"issue": {"number": number, "title": f"Issue {number}", "body": BODY}},
        )


def job_with_process(attempt: Attempt) -> Ended:
    return job(attempt, process=True)


def job_without_process(attempt: Attempt) -> Ended:
    return job(attempt, process=False)


def job(attempt: Attempt, *, process: bool) -> Ended:
    """What a job asks of the batch, and nothing else."""
    with attempt.slot():
        attempt.enter("running")
        if process:
            spawn()
        for _ in range(REQUESTS):
            reservation = attempt.ledger.reserve(least=2_000, most=50_000)
            assert isinstance(reservation, Reservation)
            attempt.ledger.settle(reservation, spent=1_234)
    attempt.enter("checking")
    return Ended(outcome="solved", reason="the check passed", cost_micro_usd=REQUESTS * 1_234, turns=REQUESTS)


def spawn() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def spawning(times: int, at_once: int) -> Cost:
    """So many processes, by so many threads, and nothing else."""
    started = now()
    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(spawn) for _ in range(times)]:
            done.result()
    return since(started)


def die_half_way(folder: Path, jobs: int) -> None:
    """Work on a batch, and be killed in the middle of a job when half of all are done."""
    begun, lock = iter(range(jobs)), threading.Lock()

    def work(attempt: Attempt) -> Ended:
        with lock:
            number = next(begun)
        if number == jobs // 2 + 20:
            attempt.enter("running")
            os.kill(os.getpid(), signal.SIGKILL)
        return job(attempt, process=False)

    with Store.open(folder) as store:
        run_batch(store, execute=work, watch=lambda event: None, stop=Stop())


def now() -> Cost:
    return Cost(time.process_time(), time.perf_counter())


def since(started: Cost) -> Cost:
    return Cost(time.process_time() - started.cpu, time.perf_counter() - started.wall)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def verdict(measured: float, most: float) -> str:
    return f"{'pass' if measured < most else 'FAIL'} (below {most:g})"


if __name__ == "__main__":
    main()
