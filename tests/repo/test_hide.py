"""`hide`: what the policy lets nothing read is not in the sandbox; git works all the same, and it stays as it was.

Every content that must stay outside has SECRET in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.policy import Policy
from runner.repo import deliver, put
from runner.sandbox.base import Sandbox
from tests.local_toolbox import local_sandbox
from tests.repo.conftest import AUTHOR, Work
from tests.repo.repositories import Repository, sample

DENIES = Policy(version=1, mode="blacklist", deny=("Read(secrets/**)", "Read(*.pem)"))
SRC_ALONE = Policy(version=1, mode="whitelist", allow=("Read(src/**)", "Bash"))
CONTENTS = "git cat-file --batch --batch-all-objects --unordered"


def guarded(path: Path, *options: str) -> Repository:
    """A project with files that are nobody's business, in base and before it."""
    repository = Repository(path, *options)
    repository.write("src/app.py", "def add(a, b):\n    return a - b\n")
    repository.write("src/twin.txt", "open to all, though a hidden file says the same\n")
    repository.write("secrets/key", "SECRET-1 of old\n")
    repository.write("secrets/removed", "SECRET-2 that base has no more\n")
    repository.write("README.md", "An app\n")
    repository.commit("Begin")
    repository.write("secrets/key", "SECRET-1 of old\nand SECRET-3, much like it\n")
    repository.write("secrets/twin", "open to all, though a hidden file says the same\n")
    repository.write("secrets/empty", "")
    repository.write("src/server.pem", "SECRET-4 among the sources\n")
    repository.write("src/app.py", "def add(a, b):\n    return a - b  # ?\n")
    (repository.path / "secrets" / "removed").unlink()
    repository.commit("Second")
    repository.git("mv", "secrets/key", "secrets/other")
    repository.write("src/open", "this text stood openly once\n")
    repository.commit("Third")
    repository.git("mv", "secrets/other", "secrets/key")
    repository.git("mv", "src/open", "secrets/closed")
    repository.write("README.md", "An app, described\n")
    repository.commit("Fourth")
    return repository


@pytest.fixture
def work(begin: Callable[..., Work], tmp_path: Path) -> Work:
    return begin(guarded(tmp_path / "project"), policy=DENIES)


def base_entry(work: Work, path: str) -> str:
    return work.git("ls-tree", work.quarantine.base, path)


def intact(work: Work, commit: str) -> bool:
    """Whether a commit has the hidden files as base has them."""
    listed = ("ls-tree", "-r", commit, "secrets/", "src/server.pem")
    return work.git(*listed) == work.git(*(work.quarantine.base if part == commit else part for part in listed))


# --- inside


def test_neither_the_files_nor_their_contents_are_inside(work: Work) -> None:
    assert work.run("ls -A . secrets src 2>/dev/null || true").split() == (
        b".: .git README.md src src: app.py twin.txt".split()
    )
    assert b"SECRET" not in work.run(f"{CONTENTS}; cat $(find .git -type f)")
    assert work.run("git cat-file -e HEAD:src/app.py; git show HEAD:secrets/key | grep -c hidden").strip() == b"1"


def test_what_is_hidden_is_known_for_the_report(work: Work) -> None:
    assert work.hidden.paths == ("secrets/closed", "secrets/empty", "secrets/key", "secrets/twin", "src/server.pem")


def test_ids_are_the_users_own_and_the_status_is_clean(work: Work) -> None:
    assert work.run("git rev-parse HEAD HEAD^{tree} HEAD~3").decode().split() == [
        work.repository.head,
        work.repository.tree("HEAD"),
        work.repository.git("rev-parse", "HEAD~3"),
    ]
    assert work.run("git status --porcelain") == b""


def test_a_content_at_a_readable_path_of_base_is_there_for_all(work: Work) -> None:
    assert work.run("cat src/twin.txt; git show HEAD:secrets/twin").splitlines()[0] == (
        work.run("git show HEAD:secrets/twin").strip()
    )


def test_a_content_that_base_hides_is_not_there_where_it_once_was_open(work: Work) -> None:
    assert b"openly" not in work.run(CONTENTS)


def test_a_side_branch_that_was_merged_is_history_too(begin: Callable[..., Work], tmp_path: Path) -> None:
    repository = guarded(tmp_path / "project")
    repository.git("switch", "--quiet", "-c", "side", "HEAD~1")
    repository.write("secrets/side", "SECRET-5 of a side branch\n")
    repository.commit("Side")
    repository.git("switch", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-commit", "--no-ff", "side")
    repository.write("secrets/merge", "SECRET-6 that only the merge has\n")
    repository.commit("Merge")
    repository.git("rm", "-rq", "secrets")
    repository.commit("No more")
    work = begin(repository, policy=DENIES)
    assert b"SECRET" not in work.run(f"{CONTENTS}; git log -p -m")
    assert b"open to all" in work.run(CONTENTS)


@pytest.mark.parametrize(
    "script",
    [
        "git log -p --stat --all; git log -S SECRET; git log --follow -p src/app.py",
        "git diff HEAD~3; git diff HEAD~1 HEAD --stat; git show HEAD~1",
        "echo x >> src/app.py; git commit -qam One; git commit -q --amend -m Two",
        "echo x >> src/app.py; git stash -q; git stash pop -q; git checkout -q src/app.py",
        "git switch -q -c side HEAD~3; echo x > x; git add x; git commit -qm Side; git switch -q -; git merge -q side",
        "git switch -q --detach HEAD~3; git switch -q -; test ! -e secrets",
        "echo x > x; git add x; git commit -qm X; git rebase -q HEAD~1; git revert --no-edit HEAD; git reset -q --hard",
        "git checkout -q HEAD~3 -- src/app.py; git commit -qm Old; git grep -c hidden HEAD",
        "echo x > x; git add -A; git commit -qm X; git gc -q; git log -p; git worktree add -q ~/other; ls ~/other/src",
        "git archive HEAD | tar t; git ls-files; git blame src/app.py; git bundle create ~/b HEAD~1..HEAD",
        "git clone -q . ~/clone && cd ~/clone && git log -p",
    ],
)
def test_everyday_git_works(script: str, work: Work) -> None:
    work.run(f"set -e; {script}; cd /workspace/repo; git status --porcelain > ~/status; test ! -s ~/status")


def test_a_whitelist_of_folders_brings_in_no_other_file(begin: Callable[..., Work], tmp_path: Path) -> None:
    work = begin(guarded(tmp_path / "project"), policy=SRC_ALONE)
    assert work.run("ls -A; git status --porcelain").split() == [b".git", b"src"]
    contents = work.run(CONTENTS)
    assert b"described" not in contents
    assert b"SECRET-4" in contents


def test_a_policy_that_denies_no_reading_hides_nothing(begin: Callable[..., Work], tmp_path: Path) -> None:
    policy = Policy(version=1, mode="whitelist", allow=("Bash", "Edit(src/**)"), ask=("Read(secrets/**)",))
    work = begin(guarded(tmp_path / "project"), policy=policy)
    assert work.hidden.blobs == frozenset()
    assert b"SECRET-3" in work.run("cat secrets/key; git fsck")


def test_odd_names_are_hidden_and_their_neighbours_not(begin: Callable[..., Work], tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    odd = [b"a*", b"new\nline", b"\xff\xfe", b"[x]", b" space ", b"back\\slash", b"!bang", b"#hash"]
    for number, name in enumerate(odd):
        repository.write(b"p/" + name + b".pem", f"SECRET {number}")
        repository.write(b"p/" + name, f"open {number}")
    repository.commit()
    work = begin(repository, policy=DENIES)
    there = set(work.run("cd p; find . -type f -printf '%P\\0'").split(b"\0")) - {b""}
    assert there == set(odd)
    assert b"SECRET" not in work.run(CONTENTS)
    assert work.run("git status --porcelain") == b""
    assert work.take().commit is None


def test_a_sha256_repository_hides_them_too(begin: Callable[..., Work], tmp_path: Path) -> None:
    work = begin(guarded(tmp_path / "project", "--object-format=sha256"), policy=DENIES)
    assert b"SECRET" not in work.run(f"{CONTENTS}; git log -p")
    work.run("echo fixed > src/app.py; git commit -qam Fix")
    assert work.take().changed == ("src/app.py",)


# --- what comes out


def test_untouched_work_is_no_commit(work: Work) -> None:
    taken = work.take()
    assert (taken.commit, taken.notes) == (None, ())


def test_the_branch_has_the_hidden_files_as_base_has_them(work: Work) -> None:
    work.run("echo fixed > src/app.py; git commit -qam Fix; echo new > new.txt")
    taken = work.take()
    assert (taken.changed, taken.notes) == (("new.txt", "src/app.py"), ())
    assert len(taken.commits) == 2
    assert all(intact(work, commit) for commit in taken.commits)
    delivered = deliver(work.quarantine, taken, "claw/job-1", folder=work.folder)
    assert "SECRET-3" in work.repository.git("show", f"{delivered.branch}:secrets/key")
    work.repository.git("fsck", "--strict")


@pytest.mark.parametrize(
    "script",
    [
        "git rm -rq --sparse secrets; git commit -qm Gone",
        "git update-index --force-remove secrets/key; git commit -qm Gone",
        "git rm -rq --cached --sparse .; git add -A; git commit -q --amend -m Other",
        "git sparse-checkout disable; echo mine > secrets/key; git add -A; git commit -qm Mine",
        "git config core.sparseCheckout false; git checkout -q secrets; git add -A; git commit -qm All",
        "mkdir -p secrets; echo mine > secrets/key; git add --sparse secrets/key; git commit -qm Mine",
        "git update-index --cacheinfo 100755,$(git rev-parse HEAD:src/app.py),secrets/key; git commit -qm Mode",
        "git sparse-checkout disable; git rm -qf src/server.pem; git commit -qm Gone",
        "rm .git/index; git add -A; git commit -qm 'A new index'",
        "git read-tree --empty; git add src/app.py; git commit -qm 'One file'; git reset -q",
        "git checkout -q --orphan fresh; git commit -qm Orphan",
        "rm -f .git/objects/pack/*.idx",
        "rm -rf .git",
    ],
)
def test_the_agent_cannot_change_what_it_was_not_given(script: str, work: Work) -> None:
    work.run(f"echo fixed > src/app.py; {script}")
    taken = work.take()
    assert taken.commit is not None
    assert taken.changed == ("src/app.py",)
    assert all(intact(work, commit) for commit in taken.commits)


def test_a_file_that_the_agent_makes_there_stays_behind_and_is_noted(work: Work) -> None:
    work.run("mkdir -p secrets; echo mine > secrets/key; echo new > secrets/new")
    taken = work.take()
    assert taken.changed == ("secrets/new",)
    assert taken.notes == ("'secrets/key' is hidden by the policy and stayed as it was",)


@pytest.mark.parametrize("commit", ["git add -A --sparse; git commit -qm File", "true"])
def test_a_file_where_a_hidden_folder_stands_gives_way(commit: str, work: Work) -> None:
    work.run(f"echo mine > secrets; echo fixed > src/app.py; {commit}")
    taken = work.take()
    assert taken.changed == ("src/app.py",)
    assert intact(work, taken.commits[-1])


@pytest.mark.parametrize(
    "script",
    [
        "git update-index --add --cacheinfo 100644,$(git rev-parse HEAD:secrets/key),src/copy; git commit -qm Copy",
        "git read-tree --prefix=src/all/ HEAD:secrets; git commit -qm Folder",
        "git update-index --add --cacheinfo 100644,$(git rev-parse HEAD~3:secrets/removed),copy; git commit -qm Old",
    ],
)
def test_a_hidden_content_cannot_be_given_a_path_that_may_be_read(script: str, work: Work) -> None:
    work.run(f"echo fixed > src/app.py; {script}")
    taken = work.take()
    assert taken.commit is not None
    assert "src/app.py" in taken.changed
    assert taken.patch is not None
    assert b"SECRET" not in taken.patch
    assert "content that the policy hides" in taken.notes[0]


def test_a_file_of_the_agents_own_may_have_the_same_content_as_a_hidden_one(work: Work) -> None:
    work.run("echo 'SECRET-4 among the sources' > guessed; git add guessed; git commit -qm Guess")
    taken = work.take()
    assert taken.changed == ("guessed",)
    assert work.show(taken.commits[-1], "guessed") == b"SECRET-4 among the sources\n"


def test_the_checks_do_not_get_them_either(work: Work, tmp_path: Path) -> None:
    work.run("echo fixed > src/app.py")
    commit = work.take().commit
    assert commit is not None
    second = tmp_path / "second"
    second.mkdir()
    with local_sandbox(second) as checks:
        put(work.quarantine, checks, branch="checks", author=AUTHOR, commit=commit, hidden=work.hidden)
        there = Work(work.repository, work.quarantine, checks, second, work.hidden)
        assert there.run("cat src/app.py; git status --porcelain; test ! -e secrets") == b"fixed\n"
        assert b"SECRET" not in there.run(CONTENTS)


def test_of_very_many_hidden_files_folders_stand_for_them_and_new_files_there_come_to_the_checks(
    begin: Callable[..., Work], tmp_path: Path
) -> None:
    repository = guarded(tmp_path / "project")
    for number in range(2100):
        repository.write(f"data/part{number % 7}/{number}", f"SECRET {number}\n")
    repository.commit()
    work = begin(repository, policy=SRC_ALONE)
    assert work.hidden.outside == (b"README.md", b"data/", b"secrets/")
    work.run("test ! -e data; mkdir data; echo new > data/new; git add --sparse data/new; git commit -qm New")
    commit = work.take().commit
    assert commit is not None
    second = tmp_path / "second"
    second.mkdir()
    with local_sandbox(second) as checks:
        put(work.quarantine, checks, branch="checks", author=AUTHOR, commit=commit, hidden=work.hidden)
        assert checks.exec("find data -type f; git status --porcelain").output == b"data/new\n"


@pytest.mark.engine
def test_they_stay_outside_of_real_containers(begin: Callable[..., Work], sandbox: Sandbox, tmp_path: Path) -> None:
    work = begin(guarded(tmp_path / "project"), sandbox=sandbox, policy=DENIES)
    assert b"SECRET" not in work.run(f"git log -p; {CONTENTS}; cat $(find . -type f)")
    work.run("echo fixed > src/app.py; git stash -q; git stash pop -q; git commit -qam Fix; git gc -q")
    taken = work.take()
    assert (taken.changed, taken.notes) == (("src/app.py",), ())
    assert intact(work, taken.commits[-1])
