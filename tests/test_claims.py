"""Claims of the agent's last message beside what was observed: few, and only what the events can tell."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.result import Claim, claims
from runner.transcript import AgentEnded, AnyEvent, CheckRan
from tests.report.sample import call, checked, decided, ran, replied, taken

UNCHANGED = taken(commit=None, commits=(), files=0, paths=(), insertions=0, deletions=0)


def _claims(message: str, *events: AnyEvent) -> tuple[Claim, ...]:
    return claims([*events, AgentEnded(reason="done", message=message)])


def _bash(turn: int, command: str, exit_code: int | None) -> list[AnyEvent]:
    use = call(turn, "Bash", command=command)
    return [replied(turn, use), decided(turn, use), ran(turn, use, "", details={"exit_code": exit_code})]


def _edit(turn: int) -> list[AnyEvent]:
    use = call(turn, "Edit", file_path="/workspace/repo/a.py")
    return [replied(turn, use), decided(turn, use), ran(turn, use, "1 replacement")]


def _only(message: str, *events: AnyEvent) -> Claim:
    (claim,) = _claims(message, *events)
    return claim


@pytest.mark.parametrize(
    ("message", "about"),
    [
        ("All tests pass.", "tests"),
        ("- **All 12 tests now pass**", "tests"),
        ("I changed it. The existing tests still pass!", "tests"),
        ("I verified that all tests pass.", "tests"),
        ("12 passed, 0 failed", "tests"),
        ("I ran the full test suite.", "testing"),
        ("I've run `pytest` too.", "testing"),
        ("I've now committed my work.", "commit"),
        ("The changes have been committed.", "commit"),
        ("Fixed the off-by-one error.", "fix"),
        ("## Summary\nThe bug is now fixed.", "fix"),
        ("Added a new test file `tests/test_pager.py`.", "file"),
        ("No code changes were needed, because it works.", "no_change"),
    ],
)
def test_a_sentence_that_can_be_compared_is_a_claim(message: str, about: str) -> None:
    assert [claim.about for claim in _claims(message, taken(), checked("make lint", 0))] == [about]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "The tests should pass.",
        "All tests pass except test_login.",
        "I did not run the tests.",
        "I haven't committed anything.",
        "Do all tests pass?",
        "If no changes are needed, close the issue.",
        "No changes were needed in the public API.",
        "No further changes were needed.",
        "Make sure all tests pass before you merge.",
        "```\nAll tests pass.\n```",
        "> All tests pass.",
        "Most tests pass.",
        "Added a test for `pager.py`.",
        "Added `application/json` to the accepted types.",
        "Please run the tests; I fixed nothing but the docs.",
    ],
)
def test_what_is_hedged_quoted_or_about_a_part_is_no_claim(message: str) -> None:
    assert _claims(message, taken()) == ()


def test_the_checks_decide_whether_tests_pass() -> None:
    failed = _only("All tests pass.", taken(), checked("ruff", 0), checked("python -m pytest -q", 1))
    assert (failed.holds, failed.observed) == (False, "1 of 1 checks failed; first 'python -m pytest -q': exit 1")
    assert _only("All tests pass.", *_bash(1, "pytest", 1), taken(), checked("pytest -q", 0)).holds is True


@pytest.mark.parametrize("check", [checked("ruff check .", 1), checked("pytest", 1, on="base")])
def test_checks_that_are_no_tests_or_ran_on_base_do_not_decide_it(check: CheckRan) -> None:
    assert _only("All tests pass.", *_bash(1, "pytest -q", 0), taken(), check).holds is True


@pytest.mark.parametrize(
    ("events", "holds"),
    [
        (_bash(1, "cd sub && python -m pytest -q 2>&1", 0), True),
        (_bash(1, "pytest -q", 1), False),
        ([*_bash(1, "pytest -q", 1), *_bash(2, "pytest -q", 0)], True),
        ([*_bash(1, "pytest -q", 0), *_edit(2)], None),
        ([*_bash(1, "pytest -q", 1), *_edit(2)], None),
        (_bash(1, "pytest -q | tail -1", 0), None),
        (_bash(1, "pytest -q || true", 0), None),
        (_bash(1, "pytest -q; ls", 1), None),
        (_bash(1, "pytest -q", None), None),
        (_bash(1, "pip install pytest", 1), None),
        (_bash(1, "./everything.sh", 0), None),
        (_edit(1), False),
        ([], False),
    ],
)
def test_without_checks_the_last_run_of_tests_decides_when_its_exit_code_is_theirs(
    events: Sequence[AnyEvent], holds: bool | None
) -> None:
    assert _only("All tests pass.", *events).holds is holds


def test_tests_that_nobody_ran_were_not_run() -> None:
    claim = _only("I ran the tests.", *_edit(1))
    assert (claim.holds, claim.observed) == (False, "no command was run")
    assert _only("I ran the tests.", *_bash(3, "pytest -q", 1)).observed == "turn 3: pytest -q → exit 1"
    assert _only("I ran the tests.", *_bash(1, "sh t.sh", 0)).holds is None


def test_a_denied_command_ran_nothing() -> None:
    use = call(1, "Bash", command="pytest")
    denied = (replied(1, use), decided(1, use, allowed=False), ran(1, use, "denied", ran=False))
    assert _only("I ran the tests.", *denied).holds is False


@pytest.mark.parametrize(
    ("branch", "holds"),
    [
        (taken(committed_by_runner=False), True),
        (taken(commits=("1" * 40, "2" * 40)), True),
        (taken(committed_by_runner=True), False),
        (UNCHANGED, False),
    ],
)
def test_who_committed_is_seen_in_the_branch(branch: AnyEvent, holds: bool) -> None:
    assert _only("I committed the changes.", branch).holds is holds


def test_a_fix_is_a_change_that_passes_its_checks() -> None:
    assert _only("I've fixed it.", taken(), checked("make check", 0)).holds is True
    assert _only("I've fixed it.", taken(), checked("make check", 2)).holds is False
    assert _only("I've fixed it.", UNCHANGED).observed == "nothing changed"
    assert _claims("I've fixed it.", taken()) == ()


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("slugify/core.py", True),
        ("`core.py`", True),
        ("./tests/test_core.py", True),
        ("/workspace/repo/slugify/core.py", True),
        ("`tests/test_other.py`", False),
    ],
)
def test_a_file_is_looked_for_in_the_diff(name: str, holds: bool) -> None:
    assert _only(f"I updated {name}.", taken()).holds is holds


def test_files_elsewhere_and_lists_that_were_cut_say_nothing() -> None:
    assert _claims("I created /tmp/reproduce.py.", taken()) == ()
    assert _claims("I created a.py.", taken(files=400)) == ()


def test_no_change_is_compared_with_the_diff() -> None:
    assert _only("No changes were needed.", UNCHANGED).holds is True
    claim = _only("No changes were needed.", taken())
    assert (claim.holds, claim.observed) == (False, "4 files changed")


def test_only_the_last_message_counts() -> None:
    events = [AgentEnded(reason="done", message="All tests pass."), AgentEnded(reason="done", message="Done.")]
    assert claims(events) == ()


def test_there_are_not_more_than_twenty() -> None:
    assert len(_claims("All tests pass.\n\n" * 100)) == 20


@given(
    st.lists(st.sampled_from(["All tests pass", "I ", "the ", "`a/b.py", ". ", "\n", "- ", "*", "> ", "```", "1. "]))
)
def test_any_message_is_read(parts: list[str]) -> None:
    assert all(claim.text for claim in _claims("".join(parts)))


@pytest.mark.parametrize(
    "piece",
    ["\n", "`", "the ", "all ", "a/", "> ", ". ", "*", "- ", "i have also ", "1. ", "\n\t", "make ", "all tests now "],
)
def test_a_long_message_takes_no_long_time(piece: str) -> None:
    began = time.monotonic()
    _claims(piece * (200_000 // len(piece)), *_bash(1, piece * 1_000, 0))
    assert time.monotonic() - began < 30
