"""`put`: what the agent finds, and above all what it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.errors import ConfigError, RepoError
from runner.repo import go_on, ignore_untracked, locate, open_quarantine, put, put_base, settle
from runner.task import Author, Repo
from tests.local_toolbox import local_sandbox
from tests.repo.conftest import AUTHOR, Work
from tests.repo.repositories import Repository, sample


def inside(work: Work, *args: str) -> set[str]:
    result = work.sandbox.exec(args, program="git", head_bytes=1_000_000)
    assert result.ok, result
    return set(result.output.decode().split("\n")) - {""}


def test_the_agent_finds_base_checked_out_on_the_jobs_branch(work: Work) -> None:
    assert inside(work, "status", "--porcelain=v2", "--branch") == {
        f"# branch.oid {work.repository.head}",
        "# branch.head claw/job-1",
    }
    assert inside(work, "ls-files") == set(work.repository.git("ls-files").split())


def test_the_history_of_base_is_there(work: Work) -> None:
    assert inside(work, "log", "--format=%s") == {"Begin", "Document"}
    assert work.run("git blame -s app.py | wc -l").strip() == b"2"


def test_nothing_from_the_future_is_in_the_object_store(work: Work) -> None:
    there = inside(work, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    known = set(work.repository.git("rev-list", "--objects", "--no-object-names", "main").split())
    assert there == known
    assert work.repository.objects() > known
    everything = work.run("cat $(find .git -type f) | grep -a -c -e secret -e future -e v2 || true")
    assert everything.strip() == b"0"


def with_all_that_git_keeps(path: Path) -> Repository:
    """A project whose every kind of keeping holds something from after `base`, each with FUTURE in it."""
    lender = Repository(path.parent / "lender")
    lender.write("base.txt", "Before\n")
    lender.commit("Base")
    lender.git("tag", "base")
    lender.write("borrowed.txt", "FUTURE in an object folder that is borrowed\n")
    lender.commit("FUTURE borrowed")
    lender.git("clone", "--quiet", "--shared", ".", str(path))
    repository = Repository.existing(path)
    repository.write("next.txt", "FUTURE commit\n")
    repository.commit("FUTURE next")
    repository.git("tag", "-a", "-m", "FUTURE tag", "v2")
    repository.git("notes", "add", "-m", "FUTURE note on base", "base")
    repository.write("base.txt", "FUTURE staged and stashed\n")
    repository.git("stash", "push", "--quiet", "-m", "FUTURE stash")
    repository.git("worktree", "add", "--quiet", "--detach", "../linked")
    linked = Repository.existing(path.parent / "linked")
    linked.write("linked.txt", "FUTURE in a linked worktree\n")
    linked.commit("FUTURE linked")
    repository.write("lost.txt", "FUTURE that only the reflog knows\n")
    repository.commit("FUTURE lost")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.git("pack-refs", "--all")
    repository.git("repack", "--quiet", "-d", "-l")
    repository.write("loose.txt", "FUTURE in the index alone\n")
    repository.git("add", "loose.txt")
    return repository


def test_no_later_history_is_inside_wherever_git_keeps_it(begin: Callable[..., Work], tmp_path: Path) -> None:
    repository = with_all_that_git_keeps(tmp_path / "project")
    work = begin(repository, base="base")
    there = inside(work, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    assert there == set(repository.git("rev-list", "--objects", "--no-object-names", "base").split())
    everything = "git cat-file --batch --batch-all-objects --unordered; cat $(find . -type f); find ."
    assert b"FUTURE" not in work.run(everything)
    assert b"Before" in work.run(everything)
    names = work.run("cd .git; find . -name alternates -o -name packed-refs -o -name worktrees").split()
    assert names == []


def test_there_is_no_other_ref_no_tag_no_remote(work: Work) -> None:
    assert inside(work, "for-each-ref", "--format=%(refname)") == {"refs/heads/claw/job-1"}
    assert inside(work, "remote") == set()
    assert set(work.run("git reflog --all --format=%H").decode().split()) <= {work.repository.head}


def test_the_agents_own_commits_have_the_author_of_the_task(work: Work) -> None:
    work.run("echo x > x && git add x && git commit -qm 'My work'")
    assert inside(work, "log", "-1", "--format=%an <%ae> %cn") == {"Grace Bot <grace@example.org> Grace Bot"}


def test_nothing_in_the_repository_belongs_to_another_user(work: Work) -> None:
    assert work.run("find . ! -user 1000").strip() == b""


def test_modes_links_and_odd_names_arrive_as_they_are(begin: Callable[..., Work], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    names = [
        b"new\nline",
        b'quo"te',
        b"-dash",
        b"\xff\xfe",
        "bi\u202edi".encode(),
        b"tab\tx",
        b"back\\slash",
        b" space ",
    ]
    for name in names:
        repository.write(name, b"\x00\xff\r\n")
    repository.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    (repository.path / "link").symlink_to("/etc/passwd")
    (repository.path / "dangling").symlink_to("../../nowhere")
    repository.commit()
    work = begin(repository)
    listed = work.run("find . -path ./.git -prune -o -printf '%y %m %P -> %l\\0'").split(b"\0")
    for name in names:
        assert b"f 644 " + name + b" -> " in listed
    assert {b"f 755 run.sh -> ", b"l 777 link -> /etc/passwd", b"l 777 dangling -> ../../nowhere"} <= set(listed)
    assert work.run("cat ./-dash") == b"\x00\xff\r\n"


def test_line_endings_are_those_of_a_checkout(begin: Callable[..., Work], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write(".gitattributes", "*.bat text eol=crlf\n*.sh text eol=lf\n")
    repository.write("a.bat", "one\r\ntwo\r\n")
    repository.write("a.sh", "one\ntwo\n")
    repository.commit()
    work = begin(repository)
    assert work.run("cat a.bat a.sh") == b"one\r\ntwo\r\none\ntwo\n"
    assert inside(work, "status", "--porcelain") == set()


def test_a_shallow_history_is_shallow_inside(begin: Callable[..., Work], tmp_path: Path) -> None:
    project = sample(tmp_path / "project")
    project.git("clone", "--quiet", "--depth=1", f"file://{project.path}", "../shallow")
    work = begin(Repository.existing(tmp_path / "shallow"))
    assert inside(work, "log", "--format=%s") == {"Document"}
    assert inside(work, "fsck") == set()


def test_a_sha256_repository_arrives(begin: Callable[..., Work], tmp_path: Path) -> None:
    repository = Repository(tmp_path / "project", "--object-format=sha256")
    repository.write("a", "1")
    repository.commit()
    assert inside(begin(repository), "rev-parse", "HEAD") == {repository.head}


def test_a_large_history_streams_through(begin: Callable[..., Work], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    subprocess.run(
        ["dd", "if=/dev/urandom", f"of={repository.path}/big", "bs=1M", "count=24", "status=none"], check=True
    )
    repository.commit()
    work = begin(repository)
    assert inside(work, "hash-object", "big") == {repository.git("rev-parse", "HEAD:big")}


def test_a_second_repository_does_not_go_over_the_first(work: Work) -> None:
    work.run("rm -rf .git && echo 'gitdir: /nowhere' > .git")
    with pytest.raises(RepoError, match="in the sandbox failed"):
        put(work.quarantine, work.sandbox, branch="claw/job-1", author=AUTHOR)


@pytest.mark.parametrize("branch", ["a..b", "x.lock", ""])
def test_a_name_that_git_refuses_is_no_branch_inside(branch: str, work: Work) -> None:
    work.run("rm -rf .git")
    with pytest.raises(RepoError):
        put(work.quarantine, work.sandbox, branch=branch, author=AUTHOR)


# --- by way of base, as with a snapshot


@pytest.fixture
def at_base(tmp_path: Path) -> Iterator[Work]:
    """The sample project in a sandbox, as a snapshot has it."""
    repository = sample(tmp_path / "project")
    source = locate(Repo(url=str(repository.path)), folder=tmp_path)
    with open_quarantine(source, folder=tmp_path) as quarantine, local_sandbox(tmp_path) as sandbox:
        put_base(quarantine, sandbox)
        settle(sandbox)
        yield Work(repository, quarantine, sandbox, tmp_path)


def test_a_snapshot_has_base_and_nobodys_branch_or_name(at_base: Work) -> None:
    assert inside(at_base, "rev-parse", "--symbolic-full-name", "HEAD") == {"HEAD"}
    assert inside(at_base, "for-each-ref") == set()
    assert inside(at_base, "reflog", "--all") == set()
    assert inside(at_base, "status", "--porcelain") == set()
    assert at_base.run("git config user.name") == f"{Author().name}\n".encode()


def test_a_job_goes_on_from_there_as_if_it_had_begun(at_base: Work) -> None:
    go_on(at_base.quarantine, at_base.sandbox, branch="claw/job-1", author=AUTHOR)
    assert inside(at_base, "status", "--porcelain=v2", "--branch") == {
        f"# branch.oid {at_base.repository.head}",
        "# branch.head claw/job-1",
    }
    at_base.run("echo x > x && git add x && git commit -qm 'My work'")
    assert inside(at_base, "log", "-1", "--format=%an <%ae> %cn") == {"Grace Bot <grace@example.org> Grace Bot"}
    assert at_base.take().changed == ("x",)


def test_git_believes_size_and_time_whatever_else_is_different_in_another_container(at_base: Work) -> None:
    at_base.run("tr a-z A-Z < app.py > copy && touch -r app.py copy && mv copy app.py")
    assert inside(at_base, "status", "--porcelain") == set()


def test_a_commit_comes_on_top_of_base(at_base: Work) -> None:
    work = Repository.existing(at_base.quarantine.path)
    tree = at_base.repository.tree("future")
    at_base.quarantine.git("fetch", "--quiet", str(at_base.repository.path), "future")
    commit = work.git("commit-tree", tree, "-p", at_base.quarantine.base, "-m", "The work")
    go_on(at_base.quarantine, at_base.sandbox, branch="claw/job-1", author=AUTHOR, commit=commit)
    assert b"a + b" in at_base.run("cat app.py")
    assert inside(at_base, "status", "--porcelain") == set()
    assert inside(at_base, "rev-parse", "HEAD") == {commit}
    there = inside(at_base, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    assert there == set(work.git("rev-list", "--objects", "--no-object-names", commit).split())


def test_what_setup_left_is_neither_seen_nor_taken(work: Work) -> None:
    work.run(
        "mkdir build 'odd *[x]' && touch build/a 'odd *[x]/b' ' c ' \"$(printf 'new\\nline')\" 'back\\slash' '!d' '#e'"
    )
    left = ignore_untracked(work.sandbox)
    assert len(left) == 7
    assert inside(work, "status", "--porcelain") == set()
    work.run("rm .git/info/exclude; echo done > done.txt")
    assert work.take(ignored=left).changed == ("done.txt",)


def test_an_author_that_git_does_not_take_is_refused_before_the_work(work: Work) -> None:
    work.run("rm -rf .git")
    with pytest.raises(ConfigError, match=r"output\.author"):
        put(work.quarantine, work.sandbox, branch="claw/job-1", author=Author(name="...", email="x"))
