"""Decisions about paths: which rules speak of them, what is asked, and what would be needed."""

from __future__ import annotations

import pytest

from runner.policy import Call, Decision, Policy, decide
from runner.policy.schema import Mode


def policy(mode: Mode = "whitelist", **rules: list[str]) -> Policy:
    return Policy.model_validate({"version": 1, "mode": mode, **rules})


def judge(judged: Policy, tool: str, path: str) -> Decision:
    return decide(judged, Call(tool=tool, subject=path))


@pytest.mark.parametrize(
    ("tool", "path", "allowed"),
    [
        ("Read", "/workspace/repo/src/a.py", True),
        ("Glob", "/workspace/repo/src", True),
        ("Grep", "/workspace/repo/src/a.py", True),
        ("Grep", "/workspace/repo", False),
        ("Read", "/workspace/repo/lib/a.py", False),
        ("Read", "/workspace/repo/src/.env", False),
        ("Read", "/workspace/repo/src/sub/.env", False),
        ("Grep", "/workspace/repo/src/keys", False),
        ("Read", "/workspace/repo/src/../lib/a.py", False),
        ("Read", "/workspace/repo/lib/../src/a.py", True),
        ("Read", "/etc/passwd", False),
        ("Edit", "/workspace/repo/src/a.py", True),
        ("Write", "/workspace/repo/src/new/b.py", True),
        ("Write", "/workspace/repo/src/ci.yml", False),
        ("Edit", "/workspace/repo/SRC/a.py", False),
        ("Write", "/workspace/repo/docs/a.md", True),
        ("Edit", "/workspace/repo/docs/a.md", False),
        ("Write", "/tmp/x", True),
        ("Write", "/tmpx", False),
    ],
)
def test_path_rules(tool: str, path: str, allowed: bool) -> None:
    judged = policy(
        allow=["Read(src/**)", "Edit(src/**)", "Write(docs/**)", "Edit(//tmp/**)"],
        deny=["Read(**/.env)", "Read(src/keys/**)", "Edit(**/ci.yml)"],
    )
    assert judge(judged, tool, path).allowed is allowed


def test_the_reason_names_the_rules_that_there_are_and_one_that_would_be_needed() -> None:
    decision = judge(policy(allow=["Edit(src/**)", "Read"]), "Write", "/workspace/repo/lib/x")
    assert decision.reason == "no rule allows Write of '/workspace/repo/lib/x'; allowed are: Edit(src/**)"
    assert decision.suggestion == "Edit(lib/x)"


@pytest.mark.parametrize(
    ("tool", "path", "suggestion"),
    [
        ("Edit", "/workspace/repo/a.py", "Edit(/a.py)"),
        ("Write", "/etc/hosts", "Edit(//etc/hosts)"),
        ("Read", "/workspace/home/.netrc", "Read(~/.netrc)"),
        ("Grep", "/workspace/repo", "Read(**)"),
        ("Glob", "/workspace/repo/src", "Read(/src)"),
        ("Read", "/workspace/repo/a[1].py", "Read(/a\\[1].py)"),
        ("Read", "/workspace/repo/a\nb", None),
    ],
)
@pytest.mark.parametrize("mode", ["whitelist", "interactive"])
def test_a_rule_that_would_allow_it_is_written_out(mode: Mode, tool: str, path: str, suggestion: str | None) -> None:
    assert judge(policy(mode), tool, path).suggestion == suggestion


def test_no_rule_is_suggested_against_a_deny_or_an_ask_rule() -> None:
    judged = policy("interactive", deny=["Edit(a)"], ask=["Edit(b)"])
    for path in ("a", "b"):
        assert judge(judged, "Edit", f"/workspace/repo/{path}").suggestion is None


def test_a_search_is_asked_about_when_all_that_it_could_find_is() -> None:
    judged = policy("blacklist", ask=["Read(keys/**)"])
    assert judge(judged, "Grep", "/workspace/repo/keys").verdict == "ask"
    assert judge(judged, "Grep", "/workspace/repo").verdict == "allow"
    assert judge(judged, "Read", "/workspace/repo/keys/a").verdict == "ask"
