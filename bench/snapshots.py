"""How long until a job's sandbox is prepared, by the size of its repository: the first time, and from a snapshot.

    python bench/snapshots.py [--megabytes 1 100 1000] [--rounds 5] [--engine docker --engine podman]

What is measured is all that lies between a resolved job and its agent: base's history on the host, what of it is
hidden, and a sandbox in which it is checked out on the job's branch. It is compared with a sandbox of the same kind
that has no repository, opened in turn with it. The repositories hold random bytes, and go when the script ends; so do
snapshots, and the cache, which is a folder of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import yaml

from runner.config import load
from runner.egress import Meter
from runner.policy.loading import load_policy
from runner.preparation import Prepared, Site, prepared, survey
from runner.repo import hide, open_quarantine
from runner.resolve import Job, resolve
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import ENGINES, open_engine
from runner.sandbox.snapshot import Snapshots
from runner.task import Task

FILE_BYTES = 100_000
TASK = {
    "version": 1,
    "name": "bench",
    "prompt": "Nothing.",
    "repo": {"url": "repository", "base": "main"},
    "image": "base",
    "setup": ["true"],
    "model": "scripted:none.yaml",
}
POLICY = {
    "version": 1,
    "mode": "blacklist",
    "deny": ["Read(**/.env)"],
    "container": {"disk": "8g", "inodes": 1_000_000},
}
MEMORY = "cat /sys/fs/cgroup/memory/memory.usage_in_bytes /sys/fs/cgroup/memory.current 2>/dev/null"


class Start(NamedTuple):
    """Seconds."""

    whole: float
    sandbox: float
    """Of that, from create to the branch being checked out."""
    status: float
    """The first `git status`."""
    memory: int
    """Bytes that the container is charged with then."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", action="append", choices=list(ENGINES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="claw-bench-") as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        jobs = {megabytes: _job(Path(folder, str(megabytes)), megabytes) for megabytes in options.megabytes}
        for name in options.engine or ENGINES:
            try:
                with open_engine(name) as engine:
                    report(engine, jobs, options.rounds)
            finally:
                # Only now are all containers gone.
                with open_engine(name) as engine:
                    Snapshots(engine.api, space=0).remove_all()


def report(engine: ContainerEngine, jobs: dict[int, Job], rounds: int) -> None:
    """Print one line for each size, and how the largest compares with the smallest."""
    firsts = {megabytes: start(engine, job) for megabytes, job in jobs.items()}
    os.sync()  # the disk is still busy with them
    again: dict[int, list[Start]] = {megabytes: [] for megabytes in jobs}
    bare: dict[int, list[float]] = {megabytes: [] for megabytes in jobs}
    for _ in range(rounds):
        # In turn, so that a busy machine hits all of them.
        for megabytes, job in jobs.items():
            again[megabytes].append(start(engine, job))
            bare[megabytes].append(_bare(engine, job))
    print(f"{engine.name} {engine.version}, median of {rounds}")
    print("  repository   first start   from a snapshot   its sandbox   bare sandbox   ratio   git status   memory")
    wholes = []
    for megabytes, first in firsts.items():
        whole, sandbox, status, memory = (statistics.median(each) for each in zip(*again[megabytes], strict=True))
        plain = statistics.median(bare[megabytes])
        wholes.append(whole)
        print(
            f"  {megabytes:7d} MB   {first.whole:9.2f} s   {whole:13.3f} s   {sandbox:9.3f} s   {plain:10.3f} s"
            f"   {sandbox / plain:5.2f}   {status:8.3f} s   {memory / 1e6:4.0f} MB"
        )
    print(f"  largest against smallest, from a snapshot: {wholes[-1] / wholes[0]:.2f}   target 1.2", flush=True)


def start(engine: ContainerEngine, job: Job) -> Start:
    """Prepare the agent's sandbox once."""
    began = time.monotonic()
    with _site(engine, job) as site:
        opening = time.monotonic()
        with prepared(site, "agent") as ready:
            done = time.monotonic()
            status = ready.sandbox.exec(["status", "--porcelain"], program="git")
            assert (status.exit_code, status.output) == (0, b""), status
            return Start(done - began, done - opening, status.seconds, _memory(ready))


def _memory(ready: Prepared) -> int:
    return int(ready.sandbox.exec(MEMORY).output.split()[0])


def _bare(engine: ContainerEngine, job: Job) -> float:
    """Seconds until a sandbox of the same kind, without a repository, answers."""
    with _site(engine, job) as site:
        began = time.monotonic()
        with engine.open_sandbox(replace(site.config, profile=replace(site.config.profile, workspace="layer"))):
            return time.monotonic() - began


@contextmanager
def _site(engine: ContainerEngine, job: Job) -> Iterator[Site]:
    job.folder.mkdir(parents=True, exist_ok=True)
    with open_quarantine(job.source, folder=job.folder) as quarantine:
        yield survey(
            job,
            engine=engine,
            quarantine=quarantine,
            hidden=hide(quarantine, job.policy.value),
            meter=Meter(1 << 30),
            record=lambda event: None,
        )


def _job(folder: Path, megabytes: int) -> Job:
    _repository(folder / "repository", megabytes * 1_000_000 // FILE_BYTES)
    (folder / "task.yaml").write_text(yaml.safe_dump(TASK))
    (folder / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    task, policy = load(folder / "task.yaml", Task), load_policy(folder / "policy.yaml")
    return resolve(task, policy, runs=folder / "runs")


def _repository(path: Path, files: int) -> None:
    """A bare repository with one commit of so many files of random bytes."""
    git = ["git", "-c", "core.compression=0", "-C", str(path)]
    path.mkdir(parents=True)
    subprocess.run([*git, "init", "--quiet", "--bare", "--initial-branch=main"], check=True)
    with subprocess.Popen([*git, "fast-import", "--quiet"], stdin=subprocess.PIPE) as importing:
        assert importing.stdin is not None
        importing.stdin.write(b"commit refs/heads/main\ncommitter A <a@example.org> 0 +0000\ndata 5\nBegin\n")
        for number in range(files):
            name = f"folder{number // 100}/file{number}".encode()
            importing.stdin.write(
                b"M 100644 inline %b\ndata %d\n" % (name, FILE_BYTES) + os.urandom(FILE_BYTES) + b"\n"
            )
    assert importing.returncode == 0


if __name__ == "__main__":
    main()
