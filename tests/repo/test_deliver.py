"""`deliver`: the branch appears, and nothing else of the user's changes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from runner.errors import ConfigError, RepoError
from runner.repo import Quarantine, Taken, check_branch, deliver, locate, open_quarantine
from runner.task import Repo
from tests.repo.conftest import Work
from tests.repo.remotes import git_daemon
from tests.repo.repositories import Repository, sample


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., tuple[Quarantine, Taken]]]:
    """`opened(url)` gives a quarantine with one more commit, as if it had been taken."""
    with ExitStack() as stack:

        def opener(url: str = "project", name: str = "job", **more: bool) -> tuple[Quarantine, Taken]:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            source = locate(Repo(url=url), folder=tmp_path, **more)
            quarantine = stack.enter_context(open_quarantine(source, folder=folder))
            inside = Repository.existing(quarantine.path)
            commit = inside.git("commit-tree", f"{quarantine.base}^{{tree}}", "-p", quarantine.base, "-m", f"By {name}")
            return quarantine, Taken(commit=commit, commits=(commit,))

        yield opener


def test_the_work_appears_as_a_branch_and_nothing_else_changes(work: Work) -> None:
    work.repository.write("app.py", "the user's own edit\n")
    work.repository.git("add", "app.py")
    work.repository.write("README.md", "and one that is not staged\n")
    before = work.repository.state()
    work.run("echo x > x; git add x; git commit -qm X; git tag evil; git branch evil")
    taken = work.take()
    delivered = deliver(work.quarantine, taken, "claw/job-1", folder=work.folder)
    assert delivered.branch == "claw/job-1"
    assert work.repository.git("rev-parse", "claw/job-1") == taken.commit
    after = work.repository.state()
    assert set(after.pop("refs")) - set(before.pop("refs")) == {f"refs/heads/claw/job-1 {taken.commit}"}
    new_logs = after.pop("logs").keys() - before.pop("logs").keys()
    assert all(log.endswith("refs/heads/claw/job-1") for log in new_logs)
    assert after == before
    assert work.repository.git("fsck", "--strict", "--no-dangling") == ""


def test_only_the_objects_of_the_work_are_added(work: Work) -> None:
    work.run("echo x > x; git hash-object -w app.py; echo unreachable | git hash-object -w --stdin")
    taken = work.take()
    before = work.repository.objects()
    deliver(work.quarantine, taken, "claw/job-1", folder=work.folder)
    added = work.repository.git("rev-list", "--objects", "--no-object-names", f"main..{taken.commit}").split()
    assert work.repository.objects() - before == set(added)


def test_no_hook_of_the_users_repository_runs(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    hooks = tmp_path / "hooks"
    for folder in (hooks, repository.path / ".git/hooks"):
        folder.mkdir(exist_ok=True)
        for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction", "proc-receive"):
            hook = folder / name
            hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
            hook.chmod(0o755)
    repository.git("config", "core.hooksPath", str(hooks))
    repository.git("config", "core.fsmonitor", f"touch {tmp_path}/ran")
    quarantine, taken = opened()
    assert deliver(quarantine, taken, "claw/a", folder=tmp_path).branch == "claw/a"
    assert not (tmp_path / "ran").exists()


def test_an_existing_branch_is_never_changed(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    quarantine, taken = opened()
    before = repository.git("rev-parse", "main")
    assert deliver(quarantine, taken, "main", folder=tmp_path).branch == "main-2"
    assert repository.git("rev-parse", "main") == before
    assert repository.git("rev-parse", "main-2") == taken.commit


def test_delivering_again_is_the_same_delivery(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    quarantine, taken = opened()
    first = deliver(quarantine, taken, "claw/a", folder=tmp_path)
    assert deliver(quarantine, taken, "claw/a", folder=tmp_path) == first
    assert repository.git("for-each-ref", "--format=%(refname)", "refs/heads/claw") == "refs/heads/claw/a"


@pytest.mark.parametrize("same_name", [True, False])
def test_eight_jobs_deliver_at_once_and_none_is_lost(
    same_name: bool, opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path
) -> None:
    repository = sample(tmp_path / "project")
    jobs = [opened(name=f"job{number}") for number in range(8)]

    def one(number: int) -> str:
        quarantine, taken = jobs[number]
        return deliver(quarantine, taken, "claw/x" if same_name else f"claw/{number}", folder=tmp_path).branch

    with ThreadPoolExecutor(8) as pool:
        branches = list(pool.map(one, range(8)))
    assert len(set(branches)) == 8
    assert [repository.git("rev-parse", branch) for branch in branches] == [taken.commit for _, taken in jobs]


def test_a_bare_repository_gets_the_branch(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    sample(tmp_path / "project").git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    quarantine, taken = opened("bare.git")
    deliver(quarantine, taken, "claw/a", folder=tmp_path)
    assert Repository.existing(tmp_path / "bare.git").git("rev-parse", "claw/a") == taken.commit


def test_a_linked_worktree_gets_the_branch(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "future")
    quarantine, taken = opened("linked")
    deliver(quarantine, taken, "claw/a", folder=tmp_path)
    assert repository.git("rev-parse", "claw/a") == taken.commit


def test_a_shallow_clone_gets_the_branch(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    project = sample(tmp_path / "project")
    project.git("clone", "--quiet", "--depth=1", f"file://{project.path}", "../shallow")
    quarantine, taken = opened("shallow")
    deliver(quarantine, taken, "claw/a", folder=tmp_path)
    shallow = Repository.existing(tmp_path / "shallow")
    assert shallow.git("log", "--format=%s", "claw/a").splitlines() == ["By job", "Document"]
    assert shallow.git("fsck", "--no-dangling") == ""


def test_a_branch_on_uncommitted_changes_has_them_as_a_commit(
    opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path
) -> None:
    repository = sample(tmp_path / "project")
    repository.write("app.py", "changed\n")
    quarantine, taken = opened(include_uncommitted=True)
    before = repository.state()
    deliver(quarantine, taken, "claw/a", folder=tmp_path)
    assert repository.git("log", "--format=%s", "main..claw/a").splitlines() == ["By job", "Uncommitted changes"]
    after = repository.state()
    assert (after["files"], after["work"]) == (before["files"], before["work"])


def test_a_bundle_gives_a_bundle(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("bundle", "create", str(tmp_path / "all.bundle"), "--all")
    quarantine, taken = opened("all.bundle")
    delivered = deliver(quarantine, taken, "claw/a", folder=tmp_path / "job")
    assert (delivered.repository, delivered.bundle) == (None, tmp_path / "job" / "branch.bundle")
    repository.git("fetch", "--quiet", str(delivered.bundle), "claw/a:claw/a")
    assert repository.git("rev-parse", "claw/a") == taken.commit


def test_a_remote_is_not_pushed_to(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    repository = sample(tmp_path / "served" / "project")
    before = repository.state()
    with git_daemon(tmp_path / "served") as url:
        quarantine, taken = opened(f"{url}/project")
        delivered = deliver(quarantine, taken, "claw/a", folder=tmp_path)
    assert delivered.bundle is not None
    assert repository.state() == before


def test_no_change_is_no_branch(opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path) -> None:
    sample(tmp_path / "project")
    quarantine, _ = opened()
    with pytest.raises(RepoError, match="nothing was changed"):
        deliver(quarantine, Taken(commit=None), "claw/a", folder=tmp_path)


def test_a_repository_that_refuses_is_an_error_with_its_reason(
    opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path
) -> None:
    repository = sample(tmp_path / "project")
    quarantine, taken = opened()
    (repository.path / ".git/refs/heads/claw").write_text(f"{repository.head}\n")
    with pytest.raises(RepoError, match="claw/a.*the work is in .*branch.bundle"):
        deliver(quarantine, taken, "claw/a", folder=tmp_path)


def test_work_for_a_repository_that_went_away_is_not_lost(
    opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path
) -> None:
    repository = sample(tmp_path / "project")
    quarantine, taken = opened()
    repository.path.rename(tmp_path / "moved")
    with pytest.raises(RepoError, match="the work is in"):
        deliver(quarantine, taken, "claw/a", folder=tmp_path)
    moved = Repository.existing(tmp_path / "moved")
    moved.git("fetch", "--quiet", str(tmp_path / "branch.bundle"), "claw/a:claw/a")
    assert moved.git("rev-parse", "claw/a") == taken.commit


@pytest.mark.parametrize(
    "branch", ["", "-x", "HEAD", "a..b", "a b", "a~1", "x.lock", "/a", "a/", "@{", "a\x1b[31m", "a\u202eb"]
)
def test_what_cannot_be_a_branch_is_refused_before_any_cost(branch: str, tmp_path: Path) -> None:
    sample(tmp_path / "project")
    source = locate(Repo(url="project"), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"output\.branch"):
        check_branch(source, branch)


@pytest.mark.parametrize("branch", ["main/x", "claw", "feature/a/b"])
def test_a_branch_beside_which_the_name_cannot_stand_is_named_before_any_cost(branch: str, tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("branch", "claw/x")
    repository.git("branch", "feature/a")
    with pytest.raises(ConfigError, match="cannot be made beside"):
        check_branch(locate(Repo(url="project"), folder=tmp_path), branch)


@pytest.mark.parametrize("branch", ["claw/job-1", "main-2", "ä/✓", "x"])
def test_ordinary_names_pass(branch: str, tmp_path: Path) -> None:
    sample(tmp_path / "project")
    check_branch(locate(Repo(url="project"), folder=tmp_path), branch)


def test_a_job_beside_the_user_does_not_touch_a_locked_index(
    opened: Callable[..., tuple[Quarantine, Taken]], tmp_path: Path
) -> None:
    repository = sample(tmp_path / "project")
    (repository.path / ".git/index.lock").touch()
    quarantine, taken = opened()
    assert deliver(quarantine, taken, "claw/a", folder=tmp_path).branch == "claw/a"
    assert subprocess.run(["git", "status"], cwd=repository.path, capture_output=True, check=False).returncode == 0
