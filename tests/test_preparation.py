"""`prepared`, and whole jobs on it: a job that starts from a snapshot is as one that does not, but sooner."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config import load
from runner.egress import Meter
from runner.policy.loading import load_policy
from runner.preparation import Site, prepared, survey
from runner.repo import hide, open_quarantine
from runner.resolve import Job, resolve
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from runner.task import Task
from runner.transcript import AnyEvent, SetupRan, SnapshotUsed, ToolRan
from tests.agents.jobs import bash, says
from tests.full_jobs import FIX, SMALL, RunTask, repository, run_task
from tests.repo.repositories import Repository
from tests.snapshots import remove_snapshots_of

__all__ = ["repository", "run_task"]

pytestmark = pytest.mark.engine

CANARY = "cAnArY_snapshot_7f3k"
LAYER = {**SMALL, "workspace": "layer"}
RULES = {"deny": ["Read(**/*.secret)", "Edit(tests/**)"]}
SETUP = ["echo built > built.txt; mkdir -p out; echo x > out/x; echo home > $HOME/made"]
LOOK = bash(
    "git status | tail -n +2; git log --format=%s%an --decorate=no; git config user.email; "
    "sed 's/-[0-9a-f-]*$//' .git/HEAD; git ls-files -s; git branch --list | wc -l; "
    "find . .. -path '*/.git/*' -prune -o ! -type d -printf '%m %U:%G %p\\n' | sort; "
    "cat code.txt ../home/made built.txt; sh try.sh; git diff --stat"
)
SEARCH = bash(
    f"git cat-file --batch --batch-all-objects | grep -c {CANARY}; grep -rc {CANARY[:-1]}[{CANARY[-1]}] /workspace "
    "| grep -v ':0$'; echo searched"
)


@pytest.fixture(autouse=True)
def own_snapshots(engine: ContainerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Snapshots are made here, and those that a test has made are removed when it ends."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CLAW_SNAPSHOT_SPACE", "20g")
    yield
    remove_snapshots_of(engine)


@pytest.fixture
def project(repository: Repository) -> Repository:
    repository.write("keys.secret", f"{CANARY}\n")
    repository.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    repository.write("try.sh", "echo x >> tests/test.sh; mv tests away; rm tests/test.sh\n")
    repository.commit("second")
    return repository


def made(events: list[AnyEvent]) -> list[tuple[str, bool]]:
    return [(event.purpose, event.made) for event in events if isinstance(event, SnapshotUsed)]


def output(events: list[AnyEvent]) -> str:
    return next(event.content for event in events if isinstance(event, ToolRan))


def test_a_job_finds_the_same_with_a_snapshot_as_without(run_task: RunTask, project: Repository) -> None:
    found, used, results = [], [], []
    for container in ({**SMALL, "workspace": "memory"}, LAYER, LAYER):
        events: list[AnyEvent] = []
        policy = {**RULES, "container": container}
        results.append(run_task([LOOK, FIX, says("Done.")], policy=policy, setup=SETUP, watch=events.append))
        found.append(output(events))
        used.append((made(events), sum(isinstance(event, SetupRan) for event in events)))
    assert "nothing to commit" in found[0]
    assert "Permission denied" in found[0]
    assert found[0] == found[1] == found[2]
    # The checks run setup on the work, whatever it made of base.
    assert used == [
        ([], 2),
        ([("agent", True), ("checks", True)], 2),
        ([("agent", False), ("checks", False)], 1),
    ]
    assert [result.outcome for result in results] == ["solved"] * 3


def test_what_is_hidden_is_in_no_snapshot(run_task: RunTask, project: Repository) -> None:
    for first in (True, False):
        events: list[AnyEvent] = []
        run_task(
            [SEARCH, FIX, says("Done.")], policy={**RULES, "container": LAYER}, watch=events.append, checks={"run": []}
        )
        assert made(events) == [("agent", first)]
        assert output(events).split() == ["0", "searched"]


def test_no_snapshot_is_made_where_setup_sees_a_secret(run_task: RunTask, project: Repository) -> None:
    events: list[AnyEvent] = []
    run_task(
        [FIX, says("Done.")],
        policy={"container": LAYER, "secrets": ["TOKEN"]},
        variables={"TOKEN": "a long enough secret"},
        setup=["echo $TOKEN > token.txt"],
        watch=events.append,
    )
    assert made(events) == []


# --- what a snapshot depends on


def site(engine: ContainerEngine, job: Job, quarantine: Any, events: list[AnyEvent]) -> Site:
    hidden = hide(quarantine, job.policy.value)
    meter = Meter(1 << 30)
    return survey(job, engine=engine, quarantine=quarantine, hidden=hidden, meter=meter, record=events.append)


def job_of(folder: Path, project: Repository, image: ImageRef, **keys: Any) -> Job:
    policy = {"version": 1, "mode": "blacklist", "container": LAYER, **keys.pop("policy", {})}
    task = {
        "version": 1,
        "name": "prepare",
        "prompt": "Nothing.",
        "repo": {"url": str(project.path), "base": "main"},
        "model": "scripted:none.yaml",
        "setup": SETUP,
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task | keys))
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    job = resolve(load(folder / "task.yaml", Task), load_policy(folder / "policy.yaml"), runs=folder / "runs")
    job.folder.mkdir(parents=True)
    return job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "jobs"
    path.mkdir()
    return path


def test_another_base_rule_or_egress_has_a_snapshot_of_its_own(
    engine: ContainerEngine, project: Repository, folder: Path, base_image: ImageRef, toolbox_volume: str
) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"output": {"author": {"name": "Somebody", "email": "else@example.org"}}, "prompt": "Another one."},
        {"repo": {"url": str(project.path), "base": "main~1"}},
        {"policy": {"deny": ["Read(**/*.secret)"]}},
        {"policy": {"egress": {"setup": ["example.org"]}}},
    ]
    seen = []
    for change in changes:
        events: list[AnyEvent] = []
        job = job_of(folder, project, base_image, **change)
        with (
            open_quarantine(job.source, folder=job.folder) as quarantine,
            prepared(site(engine, job, quarantine, events), "agent") as ready,
        ):
            author = ready.sandbox.exec("git config user.name").output.decode().strip()
        assert author == job.task.value.output.author.name
        seen += made(events)
    assert seen == [("agent", first) for first in (True, False, True, True, True)]


def test_of_two_that_want_a_snapshot_at_once_one_makes_it(
    engine: ContainerEngine, project: Repository, folder: Path, base_image: ImageRef, toolbox_volume: str
) -> None:
    job = job_of(folder, project, base_image)
    events: list[AnyEvent] = []
    with open_quarantine(job.source, folder=job.folder) as quarantine:
        both = site(engine, job, quarantine, events)

        def prepare() -> None:
            with prepared(both, "agent") as ready:
                ready.sandbox.exec("true")

        threads = [threading.Thread(target=prepare) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(made(events)) == [("agent", False), ("agent", True)]


def test_checks_see_the_work_and_nothing_that_setup_made_of_base(
    engine: ContainerEngine, project: Repository, folder: Path, base_image: ImageRef, toolbox_volume: str
) -> None:
    job = job_of(folder, project, base_image, setup=["wc -l < code.txt >> lines.txt"], policy=RULES)
    events: list[AnyEvent] = []
    with open_quarantine(job.source, folder=job.folder) as quarantine:
        here = site(engine, job, quarantine, events)
        with prepared(here, "agent") as ready:
            assert ready.left == (b"lines.txt",)
        work = Repository.existing(quarantine.path)
        tree = work.git("mktree", stdin=_tree(work).encode())
        commit = work.git("commit-tree", tree, "-p", quarantine.base, "-m", "work")
        for _ in range(2):
            with prepared(here, "checks", commit=commit) as ready:
                shown = ready.sandbox.exec("cat code.txt lines.txt; ls; git status --porcelain; git rev-parse HEAD")
                assert shown.output.decode().split() == ["a", "b", "2", "code.txt", "lines.txt", "new.secret", commit]
    assert made(events) == [("agent", True), ("checks", True), ("checks", False)]


def _tree(work: Repository) -> str:
    ids = [work.git("hash-object", "-w", "--stdin", stdin=content) for content in (b"a\nb\n", b"made\n")]
    return f"100644 blob {ids[0]}\tcode.txt\n100644 blob {ids[1]}\tnew.secret\n"
