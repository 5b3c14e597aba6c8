from __future__ import annotations

import pytest

from runner.policy import Call
from runner.sandbox.base import REPO
from runner.tools.base import Session
from runner.tools.glob import Glob


def test_files_come_newest_first_with_absolute_paths(run, put) -> None:
    for age, name in enumerate(("new.py", "old.py", "sub/middle.py", "other.txt")):
        put(name, "")
        run("Bash", command=f"touch -d '{age * 10 + 5 if 'middle' not in name else 8} minutes ago' {name}")
    answer = run("Glob", pattern="**/*.py")
    assert answer.content.split("\n") == [f"{REPO}/new.py", f"{REPO}/sub/middle.py", f"{REPO}/old.py"]


@pytest.mark.parametrize("pattern", ["*.nothing", "/", ".", "src", "**/"])
def test_no_match_is_no_error(run, pattern: str) -> None:
    answer = run("Glob", pattern=pattern)
    assert answer.content == "No files found."
    assert not answer.is_error


@pytest.mark.parametrize("pattern", ["./src/*.py", "src//*.py", "src/deep/../*.py", "{src,lib}/[ab].py"])
def test_a_pattern_may_be_written_in_many_ways(run, put, pattern: str) -> None:
    put("src/a.py", "")
    assert run("Glob", pattern=pattern).content == f"{REPO}/src/a.py"


@pytest.mark.parametrize(("pattern", "says"), [("{a,b", "never closed"), ("{1,2}" * 10, "more than 256")])
def test_a_pattern_that_makes_no_sense_is_explained(run, pattern: str, says: str) -> None:
    answer = run("Glob", pattern=pattern)
    assert answer.is_error
    assert says in answer.content


def test_more_than_a_hundred_are_cut_and_said(run) -> None:
    run("Bash", command="mkdir d && cd d && for i in $(seq 101); do : > $i.txt; done")
    lines = run("Glob", pattern="d/*.txt").content.split("\n")
    assert len(lines) == 101
    assert lines[-1] == "(only the newest 100 are shown; use a narrower pattern)"
    run("Bash", command="rm 1.txt")
    assert len(run("Glob", pattern="*.txt", path="d").content.split("\n")) == 100


@pytest.mark.parametrize("pattern", [f"{REPO}/src/**/*.py", f"{REPO}/src/deep/a.py", f"{REPO}/s*/deep/?.py"])
def test_an_absolute_pattern_names_its_folder_itself(run, put, pattern: str) -> None:
    put("src/deep/a.py", "")
    assert run("Glob", pattern=pattern).content == f"{REPO}/src/deep/a.py"


def test_the_folder_is_what_the_policy_judges(session: Session) -> None:
    for glob in (Glob(pattern="/etc/*.conf"), Glob(pattern="*", path="/etc"), Glob(pattern="*", path="../../etc/")):
        assert glob.calls(session) == (Call(tool="Glob", subject="/etc"),)


def test_a_pattern_cannot_leave_its_folder(run) -> None:
    for pattern in ("../../etc/*", "x/../../../etc/*", "*/../../*"):
        answer = run("Glob", pattern=pattern)
        assert answer.is_error
        assert "'..'" in answer.content


def test_files_that_the_policy_hides_are_left_out(run, put, session: Session) -> None:
    put("a.py", "")
    put("secret.py", "")
    session.permits = lambda call: call.subject != f"{REPO}/secret.py"
    assert run("Glob", pattern="*.py").content == f"{REPO}/a.py"


def test_a_missing_folder_is_an_error(run, put) -> None:
    put("source/a.py", "")
    answer = run("Glob", pattern="*", path="sorce")
    assert answer.is_error
    assert answer.content.startswith(f"{REPO}/sorce does not exist.")
    assert run("Glob", pattern="*", path="source/a.py").is_error
