"""What the checks see of the paths that are not the agent's to change: protected ones, and what steers them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import RepoError
from runner.repo import Taken, changed_protected, put, restore_protected
from runner.repo.protect import changed_steering
from tests.local_toolbox import local_sandbox
from tests.repo.conftest import AUTHOR, Work

TESTS = ("tests/**",)


def tree(work: Work, commit: str) -> dict[str, str]:
    entries = work.git("ls-tree", "-r", commit).splitlines()
    return {entry.split("\t")[1]: entry.split("\t")[0] for entry in entries}


def test_work_that_touches_nothing_protected_is_checked_as_it_is(work: Work) -> None:
    work.run("echo fixed > app.py")
    taken = work.take()
    assert changed_protected(work.quarantine, taken, TESTS) == ()
    assert restore_protected(work.quarantine, taken, TESTS) == taken.commit


@pytest.mark.parametrize(
    ("script", "touched"),
    [
        ("echo pass > tests/test_app.py", {"tests/test_app.py"}),
        ("rm tests/test_app.py", {"tests/test_app.py"}),
        ("echo x > tests/conftest.py; mkdir tests/deep; echo x > tests/deep/x", {"tests/conftest.py", "tests/deep/x"}),
        ("git mv tests/test_app.py elsewhere.py", {"tests/test_app.py"}),
        ("git mv tests other", {"tests/test_app.py"}),
        ("rm -r tests; ln -s docs tests", {"tests/test_app.py"}),
        ("rm -r tests; echo file > tests", {"tests/test_app.py"}),
        ("rm tests/test_app.py; mkdir tests/test_app.py; echo x > tests/test_app.py/x", None),
        ("chmod +x tests/test_app.py", {"tests/test_app.py"}),
        ("rm tests/test_app.py; ln -s ../app.py tests/test_app.py", {"tests/test_app.py"}),
        ("echo x > \"$(printf 'tests/\\377\\n_')\"", {"tests/\udcff\n_"}),
    ],
)
def test_protected_paths_are_as_base_has_them_whatever_was_done(
    script: str, touched: set[str] | None, work: Work
) -> None:
    work.run(f"echo fixed > app.py; {script}")
    taken = work.take()
    changed = set(changed_protected(work.quarantine, taken, TESTS))
    assert changed == (touched or {"tests/test_app.py", "tests/test_app.py/x"})
    commit = restore_protected(work.quarantine, taken, TESTS)
    base, checked = tree(work, work.quarantine.base), tree(work, commit)
    assert {path: entry for path, entry in checked.items() if path.startswith("tests")} == {
        "tests/test_app.py": base["tests/test_app.py"]
    }
    assert work.show(commit, "app.py") == b"fixed\n"


@pytest.mark.parametrize(
    ("glob", "protects"),
    [
        ("tests", {"tests/test_app.py"}),
        ("tests/", {"tests/test_app.py"}),
        ("/tests/**", {"tests/test_app.py"}),
        ("./tests/*.py", {"tests/test_app.py"}),
        ("*.py", {"app.py"}),
        ("**/*.py", {"app.py", "tests/test_app.py"}),
        ("**/test_*.py", {"tests/test_app.py"}),
        ("no/such/**", set()),
        (":(exclude)tests", set()),
        ("--cached", set()),
    ],
)
def test_globs_stay_within_a_folder_unless_they_say_otherwise(glob: str, protects: set[str], work: Work) -> None:
    work.run("echo x > app.py; echo x > tests/test_app.py; echo x > docs/use.md")
    assert set(changed_protected(work.quarantine, work.take(), (glob,))) == protects


@pytest.mark.parametrize("glob", ["../tests/**", "tests/../../x", "/"])
def test_globs_that_leave_the_repository_are_refused(glob: str, work: Work) -> None:
    work.run("echo x > app.py")
    with pytest.raises(RepoError, match=r"checks\.protect"):
        changed_protected(work.quarantine, work.take(), (glob,))


def test_without_a_change_base_is_checked(work: Work) -> None:
    assert restore_protected(work.quarantine, work.take(), TESTS) == work.quarantine.base


def test_the_checks_get_the_restored_commit_in_a_sandbox_of_their_own(work: Work, tmp_path: Path) -> None:
    work.run("echo 'def add(a, b): return a + b' > app.py; echo 'def test_x(): pass' > tests/test_app.py; git tag evil")
    taken = work.take()
    commit = restore_protected(work.quarantine, taken, TESTS)
    second = tmp_path / "second"
    second.mkdir()
    with local_sandbox(second) as checks:
        put(work.quarantine, checks, branch="checks", author=AUTHOR, commit=commit)
        there = Work(work.repository, work.quarantine, checks, second)
        assert there.run("cat app.py") == b"def add(a, b): return a + b\n"
        assert b"assert add(1, 2) == 3" in there.run("cat tests/test_app.py")
        assert there.run("git status --porcelain; git tag") == b""


# --- what steers


def as_base_steers(work: Work, taken: Taken, *commands: str, trust: tuple[str, ...] = ()) -> str:
    steered = changed_steering(work.quarantine, taken, commands, trust=trust)
    return restore_protected(work.quarantine, taken, (), steered=steered)


@pytest.mark.parametrize(
    "script",
    [
        "echo x > conftest.py; echo x > tests/conftest.py",
        "echo pass > tests/test_app.py",
        "rm tests/test_app.py",
        "git mv tests/test_app.py tests/other.py",
        "rm -r tests; ln -s docs tests",
        "rm -r tests; echo file > tests",
        "rm tests/test_app.py; mkdir tests/test_app.py; echo x > tests/test_app.py/x",
        "chmod +x tests/test_app.py",
        "mkdir -p a/.venv/bin; echo x > a/.venv/bin/python; echo x > json.py; ln -s json.py pytest.py",
        "echo x > \"$(printf 'tests/\\377\\n_')\"",
    ],
)
def test_what_steers_is_as_base_has_it_and_the_rest_is_the_works(script: str, work: Work) -> None:
    work.run(f"echo fixed > app.py; echo new > new.py; {script}")
    taken = work.take()
    base, checked = tree(work, work.quarantine.base), tree(work, as_base_steers(work, taken))
    assert {path for path, entry in checked.items() if base.get(path) != entry} == {"app.py", "new.py"}
    assert base.keys() <= checked.keys()


def test_work_that_steers_nothing_is_checked_as_it_is(work: Work) -> None:
    work.run("echo fixed > app.py")
    taken = work.take()
    assert as_base_steers(work, taken) == taken.commit


def test_what_a_command_runs_steers(work: Work) -> None:
    work.run("echo x > docs/use.md; echo x > other.py")
    taken = work.take()
    assert as_base_steers(work, taken) == taken.commit
    assert work.show(as_base_steers(work, taken, "sh docs/use.md"), "docs/use.md") == b"Use it\n"


def test_what_is_trusted_does_not_steer(work: Work) -> None:
    work.run("echo x > conftest.py; echo pass > tests/test_app.py; echo x > tests/conftest.py")
    taken = work.take()
    checked = tree(work, as_base_steers(work, taken, trust=("tests/**",)))
    assert "conftest.py" not in checked
    assert "tests/conftest.py" in checked
    assert work.show(as_base_steers(work, taken, trust=("tests", "conftest.py")), "tests/test_app.py") == b"pass\n"


def test_a_glob_that_leaves_the_repository_cannot_be_trusted(work: Work) -> None:
    work.run("echo x > conftest.py")
    with pytest.raises(RepoError, match=r"checks\.trust"):
        changed_steering(work.quarantine, work.take(), (), trust=("../x",))


def test_a_huge_configuration_file_steers(work: Work) -> None:
    work.run("head -c 2000000 /dev/zero | tr '\\0' '#' > pyproject.toml")
    assert [one.change.path for one in changed_steering(work.quarantine, work.take(), ())] == ["pyproject.toml"]
