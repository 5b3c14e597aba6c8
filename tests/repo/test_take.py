"""`take`: the agent's work, whatever it is and however it was left, and nothing that is not a sound branch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import RepoError
from runner.masking import masker
from runner.repo import TakeLimits, Taken
from tests.repo.conftest import Work
from tests.repo.repositories import Repository, sample


def applied(work: Work, taken: Taken) -> str:
    """The tree that `git apply` makes of the patch on a fresh checkout of base."""
    assert taken.patch is not None
    checkout = work.folder / "checkout"
    work.repository.git("worktree", "add", "--quiet", "--detach", str(checkout), work.quarantine.base)
    there = Repository.existing(checkout)
    there.git("apply", "--index", "--whitespace=nowarn", "-", stdin=taken.patch)
    return there.git("write-tree")


def listing(work: Work, commit: str | None) -> dict[bytes, bytes]:
    """Path -> mode of a commit's tree."""
    assert commit is not None
    entries = work.quarantine.git("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")[:-1]
    return {entry.partition(b"\t")[2]: entry[:6] for entry in entries}


# --- what comes out


def test_untouched_work_is_no_commit(work: Work) -> None:
    taken = work.take()
    assert (taken.commit, taken.commits, taken.diff.files, taken.patch) == (None, (), 0, b"")


def test_uncommitted_work_is_committed_and_marked(work: Work) -> None:
    work.run("echo fixed > app.py; echo new > new.py; rm README.md")
    taken = work.take(message="Fix it\n\nWith care")
    assert taken.runner_committed
    assert taken.changed == ("README.md", "app.py", "new.py")
    assert work.git("log", "-1", "--format=%B", taken.commit or "") == (
        "Fix it\n\nWith care\n\nAgent-Run: job-1\nAgent-Model: scripted:x\nAgent-Transcript-SHA256: 00ff\n"
        "Agent-Commit: uncommitted work, committed by the runner"
    )


def test_the_agents_commits_keep_number_order_and_messages(work: Work) -> None:
    for number in (1, 2, 3):
        work.run(f"echo {number} > f{number}; git add .; git commit -qm 'Step {number}' -m 'Because.'")
    taken = work.take()
    assert not taken.runner_committed
    assert work.git("log", "--reverse", "--format=%s/%b", f"{work.quarantine.base}..{taken.commit}").split("\n\n")[
        0
    ] == ("Step 1/Because.")
    subjects = work.git("log", "--reverse", "--format=%s", f"{work.quarantine.base}..{taken.commit}").splitlines()
    assert subjects == ["Step 1", "Step 2", "Step 3"]
    assert len(taken.commits) == 3
    assert taken.commits[-1] == taken.commit


def test_uncommitted_work_comes_on_top_of_the_agents_commits(work: Work) -> None:
    work.run("echo 1 > one; git add .; git commit -qm One; echo 2 > two; git add two; echo 3 > three")
    taken = work.take(message="The rest")
    subjects = work.git("log", "--reverse", "--format=%s", f"{work.quarantine.base}..{taken.commit}").splitlines()
    assert subjects == ["One", "The rest"]
    assert taken.changed == ("one", "three", "two")


def test_every_commit_has_the_tasks_author_and_the_trailers(work: Work) -> None:
    work.run(
        "echo 1 > a; git add a; GIT_AUTHOR_DATE='1999-01-01T00:00:00 +0500' "
        "git -c user.name=Mallory -c user.email=m@x commit -qm One; echo 2 > b"
    )
    taken = work.take()
    for commit in taken.commits:
        assert work.git("show", "-s", "--format=%an %ae %cn %ce", commit) == (
            "Grace Bot grace@example.org Grace Bot grace@example.org"
        )
        assert work.git("show", "-s", "--format=%(trailers:key=Agent-Run,valueonly)", commit) == "job-1"
        assert not work.git("show", "-s", "--format=%ad", commit).startswith("1999")


def test_a_message_cannot_imitate_our_trailers_or_act_on_a_terminal(work: Work) -> None:
    work.run(
        "printf 'Fix\\n\\n\\033[31mred\\033[0m \\342\\200\\256 bidi\\nAgent-Run: other\\nAGENT-MODEL : fake' > /tmp/m;"
        "git commit -q --allow-empty -F /tmp/m; echo x > x"
    )
    taken = work.take()
    body = work.git("show", "-s", "--format=%B", taken.commits[0])
    assert "\x1b" not in body
    assert "\u202e" not in body
    assert "other" not in body
    assert "fake" not in body
    assert body.startswith("Fix\n\n[31mred[0m  bidi\n\nAgent-Run: job-1")


def test_a_secret_in_a_message_is_masked(work: Work) -> None:
    work.run("echo x > x; git add x; git commit -qm 'With hunter2-hunter2 in it'")
    taken = work.take(mask=masker(("hunter2-hunter2",)))
    assert work.git("show", "-s", "--format=%s", taken.commit or "") == "With *** in it"


def test_headers_that_an_agent_can_forge_do_not_come_out(work: Work) -> None:
    work.run(
        "echo x > x; git add x; tree=$(git write-tree);"
        "printf 'tree %s\\nparent %s\\nauthor A <a> 1 +0000\\ncommitter A <a> 1 +0000\\nencoding utf-16\\n"
        "gpgsig -----BEGIN\\n fake\\nx-secret smuggled\\n\\nmsg\\n' $tree $(git rev-parse HEAD) > /tmp/c;"
        "git reset -q --hard $(git hash-object -t commit -w /tmp/c)"
    )
    taken = work.take()
    raw = work.git("cat-file", "commit", taken.commit or "")
    assert [line.split()[0] for line in raw.split("\n\n")[0].splitlines()] == ["tree", "parent", "author", "committer"]


def test_work_that_cancels_out_is_no_commit(work: Work) -> None:
    work.run("echo x > x; git add x; git commit -qm One; git rm -q x; git commit -qm Two")
    taken = work.take()
    assert taken.commit is None
    assert "cancel" in taken.notes[0]


def test_a_merge_becomes_one_commit_of_the_line(work: Work) -> None:
    work.run(
        "git checkout -q -b side; echo s > side; git add .; git commit -qm Side1; git commit -q --allow-empty -m Side2;"
        "git checkout -q claw/job-1; echo m > main; git add .; git commit -qm Main; git merge -q --no-ff -m Merged side"
    )
    taken = work.take()
    subjects = work.git("log", "--reverse", "--format=%s %p", f"{work.quarantine.base}..{taken.commit}").splitlines()
    assert [line.rsplit(" ", 1)[0] for line in subjects] == ["Main", "Merged"]
    assert taken.changed == ("main", "side")


@pytest.mark.parametrize(
    "script",
    [
        "git commit -q --amend -m Rewritten",
        "git reset -q --soft HEAD~1; git commit -qm Squashed",
        "git checkout -q --orphan fresh; git commit -qm Orphan",
        "git checkout -q HEAD~1; git merge -q -s ours -m 'Second parent' claw/job-1; git checkout -q claw/job-1 .",
    ],
)
def test_rewritten_history_comes_out_as_one_commit_on_base(script: str, work: Work) -> None:
    work.run(f"{script}; echo new > new; git add new; git commit -qm More")
    taken = work.take(message="By template")
    assert len(taken.commits) == 1
    assert work.git("rev-parse", f"{taken.commit}~1") == work.quarantine.base
    assert taken.changed == ("new",)
    assert "one commit" in taken.notes[0]


def test_going_back_behind_base_is_seen_as_the_change_that_it_is(work: Work) -> None:
    work.run("git reset -q --hard HEAD~1")
    taken = work.take()
    assert taken.changed == ("docs/use.md",)
    assert taken.diff.deletions == 1


@pytest.mark.parametrize(
    "script",
    [
        "git checkout -q -b mine",
        "git checkout -q --detach",
        "git checkout -q -b HEAD 2>/dev/null || git branch -f main HEAD; git tag claw/job-1",
        "git checkout -q -b odd/ä-✓",
        "git checkout -q -b mine; git pack-refs --all",
        "git branch -m -f other",
        "git tag -f HEAD",
    ],
)
def test_the_work_is_where_head_is(script: str, work: Work) -> None:
    work.run(f"{script}; echo x > x; git add x; git commit -qm 'On another branch'")
    taken = work.take()
    assert taken.changed == ("x",)
    assert work.git("show", "-s", "--format=%s", taken.commit or "") == "On another branch"
    assert taken.notes == ()


def test_a_branch_without_commits_is_taken_from_the_work_tree(work: Work) -> None:
    work.run("git checkout -q --orphan empty; echo x > x")
    assert work.take().changed == ("x",)


def test_files_staged_by_force_are_work_even_when_ignored(work: Work) -> None:
    work.run("echo '*.log' > .gitignore; echo a > a.log; echo b > b.log; git add -f a.log")
    assert work.take().changed == (".gitignore", "a.log")


def test_a_repository_cloned_into_the_work_tree_is_left_out(work: Work) -> None:
    work.run("git clone -q . vendor/copy; echo x > vendor/x")
    taken = work.take()
    assert taken.changed == ("vendor/x",)
    assert "'vendor/copy' is a repository of its own" in taken.notes[0]


def test_a_second_round_builds_on_the_first(work: Work) -> None:
    work.run("echo 1 > one; git add .; git commit -qm One")
    first = work.take()
    work.run("echo 2 > two; git add .; git commit -qm Two; echo 3 > three")
    second = work.take()
    assert first.changed == ("one",)
    assert second.changed == ("one", "three", "two")
    assert len(second.commits) == 3
    assert work.run("ls -A /workspace").split() == [b"home", b"repo"]


# --- content survives


@pytest.mark.parametrize(
    "script",
    [
        "head -c 5000 /dev/urandom > bin; printf '\\000' > nul; : > empty",
        "head -c 5000 /dev/urandom > bin; git add .; git commit -qm B; head -c 100 /dev/urandom >> bin",
        "chmod +x app.py; echo '#!/bin/sh' > run.sh; chmod 755 run.sh",
        "ln -s /etc/passwd out; ln -s ../../../../etc up; ln -s app.py in; ln -s nowhere gone",
        "rm app.py; ln -s README.md app.py; rm -r docs; echo file > docs",
        "rm README.md; mkdir README.md; echo x > README.md/x",
        "git mv app.py renamed.py; mkdir deep; git mv docs/use.md deep/use.md; echo more >> deep/use.md",
        "printf 'a\\r\\nb\\r\\n' > crlf.txt; printf 'mixed\\r\\nends\\n' > mixed",
        "echo '*.txt text eol=crlf' > .gitattributes; printf 'a\\r\\nb\\r\\n' > t.txt; git add .; git commit -qm C",
        "printf '\\377\\376\\200 latin \\351\\n' > l1; printf 'no newline' > nonl; printf '\\303\\n' > cut",
        "n=$(printf 'new\\nline'); echo 1 > \"$n\"; echo 2 > 'quo\"te'; echo 3 > ./-dash; echo 4 > 'back\\slash'",
        "echo 1 > \"$(printf '\\377\\376')\"",
        "echo 2 > \"$(printf 'bi\\342\\200\\256di')\"; echo 3 > ' lead'; echo 4 > 'trail '",
        "git mv app.py \"$(printf 'tab\\there')\"",
        "echo 1 > 'a -> b'; echo 2 > 'a => {b}'; echo 3 > ':(glob)*'; echo 4 > '!x'",
        "mkdir -p a/b/c/d/e/f/g; echo deep > a/b/c/d/e/f/g/h; rm -r tests docs",
        "printf '*.bin binary\\n*.py -diff\\n' > .gitattributes; echo text > t.bin; echo x >> app.py",
        "seq 5000 > many; git add .; git commit -qm M; sed -i 5d many",
    ],
)
def test_the_patch_makes_the_very_tree_that_the_agent_left(script: str, work: Work) -> None:
    work.run(f"set -e; {script}")
    work.run("git -c core.safecrlf=false add -A")
    left = work.run("git write-tree").decode().strip()
    taken = work.take()
    assert work.git("rev-parse", f"{taken.commit}^{{tree}}") == left
    assert applied(work, taken) == left
    assert taken.diff.files > 0


def test_modes_and_links_come_out_as_they_are(work: Work) -> None:
    work.run("chmod +x app.py; ln -s /etc/passwd link; echo x > plain; chmod 600 plain")
    taken = work.take()
    modes = listing(work, taken.commit)
    assert (modes[b"app.py"], modes[b"link"], modes[b"plain"]) == (b"100755", b"120000", b"100644")
    assert work.show(taken.commit or "", "link") == b"/etc/passwd"


def test_a_rename_counts_as_one_file_and_names_two_paths(work: Work) -> None:
    work.run("seq 100 > long; git add .; git commit -qm L")
    work.run("git mv long moved; git mv app.py core.py")
    taken = work.take()
    assert taken.changed == ("app.py", "core.py", "moved")
    assert (taken.diff.files, taken.diff.insertions, taken.diff.deletions) == (2, 100, 0)


def test_paths_are_exact_for_the_program_and_readable_for_people(work: Work) -> None:
    work.run("echo 1 > \"$(printf '\\377')\"")
    taken = work.take()
    assert [os.fsencode(path) for path in taken.changed] == [b"\xff"]
    assert taken.diff.paths == ("\ufffd",)


def test_empty_commits_are_kept_beside_real_ones(work: Work) -> None:
    work.run("git commit -q --allow-empty -m Thinking; echo x > x; git add x; git commit -qm Doing")
    assert len(work.take().commits) == 2


def test_a_shallow_source_gives_a_branch_on_it(begin: Callable[..., Work], tmp_path: Path) -> None:
    project = sample(tmp_path / "project")
    project.git("clone", "--quiet", "--depth=1", f"file://{project.path}", "../shallow")
    work = begin(Repository.existing(tmp_path / "shallow"))
    work.run("echo x > x; git add x; git commit -qm X; echo y > y")
    taken = work.take()
    assert taken.changed == ("x", "y")
    assert taken.notes == ()


def test_a_sha256_source_gives_a_sha256_branch(begin: Callable[..., Work], tmp_path: Path) -> None:
    repository = Repository(tmp_path / "project", "--object-format=sha256")
    repository.write("a", "1")
    repository.commit()
    work = begin(repository)
    work.run("echo x > x; git add x; git commit -qm X")
    assert len(work.take().commit or "") == 64


# --- limits


@pytest.mark.parametrize(
    ("script", "limits", "said"),
    [
        ("head -c 300000 /dev/urandom > big", TakeLimits(pack_bytes=100_000), "larger than 100000 bytes, packed"),
        ("head -c 300000 /dev/zero > big", TakeLimits(blob_bytes=100_000), "a file of 300000 bytes"),
        ("for i in 1 2 3; do seq $i 50000 > f$i; done", TakeLimits(total_bytes=400_000), "bytes in its files"),
        ("for i in $(seq 50); do echo $i > f$i; done", TakeLimits(objects=20), "files, folders and commits"),
        ("for i in $(seq 50); do echo > f$i; done", TakeLimits(paths=20), "more than 20 files"),
        ("mkdir -p a/b/c/d; echo > a/b/c/d/e", TakeLimits(depth=3), "more than 3 folders deep"),
    ],
)
def test_work_over_a_limit_is_refused(script: str, limits: TakeLimits, said: str, work: Work) -> None:
    work.run(script)
    with pytest.raises(RepoError, match=said):
        work.take(limits=limits)
    assert work.git("for-each-ref", "--format=%(refname)") == "refs/claw/base"


def test_more_commits_than_allowed_come_out_as_one(work: Work) -> None:
    work.run("for i in 1 2 3 4 5; do echo $i > f; git add f; git commit -qm $i; done")
    taken = work.take(limits=TakeLimits(commits=3))
    assert len(taken.commits) == 1
    assert work.show(taken.commit or "", "f") == b"5\n"


def test_a_patch_over_its_limit_is_left_out_and_the_branch_is_not(work: Work) -> None:
    work.run("seq 10000 > long")
    taken = work.take(limits=TakeLimits(patch_bytes=10_000))
    assert taken.patch is None
    assert taken.commit is not None


def test_processes_of_the_agent_are_ended_first(work: Work) -> None:
    task = work.sandbox.start("while :; do date +%N > racing; done")
    work.run("sleep 0.2")
    taken = work.take()
    assert work.sandbox.poll_task(task.id).running is False
    assert taken.changed == ("racing",)


def test_nothing_of_a_take_is_left_beside_the_quarantine(work: Work) -> None:
    work.run("echo x > x")
    work.take()
    assert sorted(path.name for path in work.quarantine.path.iterdir() if path.name.startswith("incoming")) == []
    assert subprocess.run(["pgrep", "-f", str(work.quarantine.path)], check=False, capture_output=True).stdout == b""
