"""What follows from path rules for commands: may_read, may_write, hidden, kept, containment."""

from __future__ import annotations

import time

import pytest

from runner.policy import Policy, decide
from runner.policy.contain import Grant, can_hide, containment, hidden, kept, may_read, may_write, unreadable
from runner.policy.paths import REPO
from runner.policy.verdicts import Call

EVERYTHING = Grant(path="/", access="write")
PATHS = ("README.md", "src/app.py", "src/gen/api.py", "secrets/key", "secrets/deep/key", "tests/test_app.py", "a.lock")


def policy(mode: str = "whitelist", **rules: object) -> Policy:
    return Policy.model_validate({"version": 1, "mode": mode, **rules})


def uncontained(policy: Policy) -> dict[str, str]:
    return {gap.rule: gap.why for gap in containment(policy).uncontained}


# --- may_read, may_write


@pytest.mark.parametrize(
    ("rules", "path", "verdict"),
    [
        ({"allow": ["Bash"]}, "x", "allow"),
        ({"allow": ["Read(src/**)"]}, "src/a", "allow"),
        ({"allow": ["Read(src/**)"]}, "x", "deny"),
        ({"allow": ["Read(src/**)", "Bash"]}, "x", "deny"),
        ({"allow": ["Read(src/**)", "Edit(x)"]}, "x", "allow"),
        ({"allow": ["Read(src/**)", "Grep(docs/**)"]}, "docs/x", "allow"),
        ({"allow": ["Read"]}, "x", "allow"),
        ({"allow": ["Read"], "deny": ["Read(x)"]}, "x", "deny"),
        ({"allow": ["Read"], "deny": ["Grep(x)"]}, "x", "allow"),
        ({"allow": ["Bash"], "deny": ["Read"]}, "x", "allow"),
        ({"allow": ["Read(src/**)"], "ask": ["Read(x)"]}, "x", "ask"),
        ({"mode": "blacklist"}, "x", "allow"),
        ({"mode": "blacklist", "deny": ["Read(x)"]}, "x", "deny"),
        ({"mode": "interactive"}, "x", "allow"),
        ({"mode": "interactive", "allow": ["Read(src/**)"]}, "x", "ask"),
    ],
)
def test_reading_is_what_tools_or_commands_could_be_allowed(rules: dict[str, object], path: str, verdict: str) -> None:
    assert may_read(policy(**rules), f"{REPO}/{path}").verdict == verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "path", "verdict"),
    [
        ({"allow": ["Edit(src/**)", "Bash"]}, "src/a", "allow"),
        ({"allow": ["Edit(src/**)", "Bash"]}, "x", "deny"),
        ({"allow": ["Write(src/**)"]}, "src/a", "allow"),
        ({"allow": ["Bash"]}, "x", "allow"),
        ({"allow": ["Bash(make:*)"]}, "x", "deny"),
        ({"allow": ["Read"]}, "x", "deny"),
        ({"allow": ["Edit"], "deny": ["Edit(x)"]}, "x", "deny"),
        ({"allow": ["Edit"], "deny": ["Write(x)"]}, "x", "deny"),
        ({"allow": ["Edit"], "deny": ["Write"]}, "x", "allow"),
        ({"mode": "blacklist", "deny": ["Edit"]}, "x", "deny"),
        ({"allow": ["Edit"], "ask": ["Edit(x)"]}, "x", "ask"),
        ({"mode": "blacklist"}, "x", "allow"),
        ({"mode": "interactive"}, "x", "ask"),
        ({"mode": "interactive", "allow": ["Edit(src/**)"]}, "src/x", "allow"),
        ({"mode": "interactive", "allow": ["Bash"]}, "x", "allow"),
    ],
)
def test_writing_is_what_tools_or_commands_could_be_allowed(rules: dict[str, object], path: str, verdict: str) -> None:
    assert may_write(policy(**rules), f"{REPO}/{path}").verdict == verdict  # type: ignore[arg-type]


def test_a_denial_names_the_rule() -> None:
    decision = may_write(policy("blacklist", deny=["Edit(db/**)"]), f"{REPO}/db/x")
    assert (decision.rule, decision.verdict) == ("Edit(db/**)", "deny")
    assert "Edit(src/**)" in may_write(policy(allow=["Edit(src/**)"]), f"{REPO}/x").reason


def test_outside_of_the_repository_a_whitelist_leaves_it_to_the_container() -> None:
    rules = policy(allow=["Read(src/**)", "Edit(src/**)"], deny=["Read(//etc/shadow)"])
    assert may_read(rules, "/usr/lib/x").allowed
    assert may_write(rules, "/tmp/x").allowed
    assert not may_read(rules, "/etc/shadow").allowed


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "rules",
    [
        {"allow": ["Read(src/**)", "Edit(src/**)"], "deny": ["Edit(src/gen/**)"]},
        {"mode": "blacklist", "deny": ["Read(secrets/**)", "Edit(*.lock)"]},
        {"allow": ["Read", "Edit"], "ask": ["Edit(tests/**)"]},
    ],
)
def test_what_no_tool_could_be_allowed_the_tools_are_denied_too(rules: dict[str, object], path: str) -> None:
    what = policy(**rules)  # type: ignore[arg-type]
    whole = f"{REPO}/{path}"
    if may_read(what, whole).verdict == "deny":
        assert decide(what, Call(tool="Read", subject=whole)).verdict == "deny"
    assert may_write(what, whole).verdict == decide(what, Call(tool="Edit", subject=whole)).verdict


# --- hidden, kept


@pytest.mark.parametrize(
    ("rules", "paths"),
    [
        ({"mode": "blacklist", "deny": ["Read(secrets/**)"]}, {"secrets/key", "secrets/deep/key"}),
        ({"mode": "blacklist", "deny": ["Read(key)"]}, {"secrets/key", "secrets/deep/key"}),
        ({"mode": "blacklist", "deny": ["Read(//workspace/repo/a.*)"]}, {"a.lock"}),
        ({"allow": ["Read(src/**)", "Edit(tests/**)"]}, {"README.md", "secrets/key", "secrets/deep/key", "a.lock"}),
        ({"mode": "blacklist", "ask": ["Read(secrets/**)"]}, set()),
        ({"mode": "interactive", "allow": ["Read(src/**)"]}, set()),
        ({"allow": ["Edit(src/**)", "Bash(pytest:*)"]}, set()),
    ],
)
def test_hidden_is_what_nothing_may_read(rules: dict[str, object], paths: set[str]) -> None:
    what = policy(**rules)  # type: ignore[arg-type]
    assert set(hidden(what, PATHS)) == paths
    assert can_hide(what) or not paths


def test_what_setup_made_is_unreadable_by_a_deny_rule_alone() -> None:
    rules = policy(allow=["Read(src/**)", "Bash(make)"], deny=["Read(*.env)"])
    assert unreadable(rules, ("local.env", "build/", "deep/x.env/")) == ("local.env", "deep/x.env/")


@pytest.mark.parametrize(
    ("rules", "paths"),
    [
        ({"mode": "blacklist", "deny": ["Edit(secrets/**)"]}, ("secrets",)),
        ({"mode": "blacklist", "deny": ["Edit(secrets/deep)"]}, ("secrets/deep",)),
        ({"mode": "blacklist", "deny": ["Edit(*.lock)", "Write(src/app.py)"]}, ("a.lock", "src/app.py")),
        ({"mode": "blacklist", "deny": ["Edit(.git/**)", "Edit(absent/**)"]}, ()),
        ({"mode": "blacklist", "deny": ["Edit"]}, ()),
        ({"allow": ["Edit(src/**)", "Bash(make)"], "deny": ["Edit(src/gen/**)", "Edit(*.lock)"]}, ("src/gen",)),
        ({"allow": ["Read", "Bash(make)"], "deny": ["Edit(src/**)"]}, ()),
        ({"mode": "blacklist", "ask": ["Edit(secrets/**)"]}, ()),
    ],
)
def test_kept_is_what_rules_deny_within_what_commands_could_write(
    rules: dict[str, object], paths: tuple[str, ...]
) -> None:
    assert kept(policy(**rules), PATHS) == paths  # type: ignore[arg-type]


def test_many_paths_take_no_time_to_speak_of() -> None:
    paths = [f"package{number % 60}/module{number % 300}/file_{number}.py" for number in range(20_000)]
    deny = [f"Read(**/*.{letter}pem)" for letter in "abcdefghijklmno"]
    what = policy("blacklist", deny=[*deny, *(rule.replace("Read", "Edit") for rule in deny)])
    start = time.process_time()
    assert (hidden(what, paths), kept(what, paths)) == ((), ())
    assert time.process_time() - start < 10  # it is 0.3 s


# --- containment


@pytest.mark.parametrize(
    ("rules", "writable"),
    [
        ({"mode": "blacklist"}, (".",)),
        ({"mode": "interactive"}, (".",)),
        ({"allow": ["Bash"]}, (".",)),
        ({"allow": ["Edit"]}, (".",)),
        ({"allow": ["Edit(**)"]}, (".",)),
        ({"allow": ["Edit(//workspace/**)"]}, (".",)),
        ({"allow": ["Bash(make)"]}, ()),
        ({"allow": ["Edit(src/**)", "Bash"]}, ("src",)),
        ({"allow": ["Edit(/src/)", "Write(docs/a.md)", "Edit(src/gen/**)"]}, ("src", "docs/a.md")),
        ({"allow": ["Edit(src/*)", "Edit(a\\*b/**)"]}, ("a*b", "src")),
        ({"allow": ["Edit(src/*.py)", "Edit(*.md)", "Edit(src/)", "Edit(lib/**/x)"]}, ()),
        ({"allow": ["Edit(src/**)", "Edit(lib/**)"], "deny": ["Edit(lib/**)"]}, ("src",)),
        ({"allow": ["Edit(.git/hooks/**)", "Edit(//tmp/**)"]}, ()),
        ({"mode": "blacklist", "deny": ["Edit"]}, ()),
        ({"mode": "blacklist", "deny": ["Edit(**)"]}, ()),
    ],
)
def test_commands_may_write_where_a_rule_names_whole_folders(
    rules: dict[str, object], writable: tuple[str, ...]
) -> None:
    assert containment(policy(**rules)).writable == writable  # type: ignore[arg-type]


def test_grants_hold_writing_to_the_folders_and_to_what_git_and_programs_need() -> None:
    held = containment(policy(allow=["Edit(src/**)", "Bash(pytest:*)"]))
    assert held.restricts
    assert held.grants == (
        Grant(path="/", access="read"),
        Grant(path="/", access="write", without=(REPO,)),
        Grant(path=f"{REPO}/.git", access="write"),
        Grant(path=f"{REPO}/src", access="write"),
    )


def test_grants_that_hold_nothing_back_need_not_be_applied() -> None:
    held = containment(policy("blacklist", deny=["Read(secrets/**)", "Edit(db/**)", "Bash(curl:*)"]))
    assert (held.grants, held.restricts) == ((EVERYTHING,), False)


def test_what_is_denied_outside_of_the_repository_is_left_out() -> None:
    held = containment(policy("blacklist", deny=["Read(//etc/shadow)", "Edit(//opt/**)", "Edit(//opt/x)"]))
    assert held.grants == (
        Grant(path="/", access="list"),
        Grant(path="/", access="read", without=("/etc/shadow",)),
        Grant(path="/", access="write", without=("/opt", "/etc/shadow")),
    )
    assert held.uncontained == ()


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("Edit(*.lock)", "the gate refuses it"),
        ("Edit(.git/**)", "git must write there"),
        ("Read(.git/config)", "git must read there"),
        ("Read", "commands read files all the same"),
        ("Write", "commands write files all the same"),
        ("Grep(secrets/**)", "about Grep alone"),
        ("Read(//**/id_rsa)", "whole folders"),
        ("Read(~/.ssh/**)", "must be able to make new files"),
        ("Edit(//tmp/x)", "must be able to make new files"),
        ("Read(//workspace/**)", "the repository lies there"),
        ("Bash(curl:*)", "an interpreter"),
        ("WebFetch(domain:docs.example.org)", "*.example.org"),
        ("WebFetch", "egress"),
    ],
)
def test_a_rule_that_commands_are_not_held_to_is_named(rule: str, why: str) -> None:
    gaps = uncontained(policy("blacklist", deny=[rule], egress={"agent": ["*.example.org"]}))
    assert list(gaps) == [rule]
    assert why in gaps[rule]


@pytest.mark.parametrize(
    "rule",
    [
        "Edit(src/**)",
        "Read(secrets/**)",
        "Read(*.pem)",
        "Edit",
        "Bash",
        "WebFetch(domain:example.com)",
        "Edit(//tmp/**)",
    ],
)
def test_a_rule_that_holds_for_commands_is_not_named(rule: str) -> None:
    assert uncontained(policy("blacklist", deny=[rule], egress={"agent": ["*.example.org"]})) == {}


def test_commands_are_not_asked_about_files() -> None:
    rules = policy("blacklist", ask=["Edit(db/**)", "Read(secrets/**)", "Bash(git push:*)"])
    gaps = uncontained(rules)
    assert "the gate refuses what nobody approved" in gaps["Edit(db/**)"]
    assert "they read it" in gaps["Read(secrets/**)"]
    assert "interpreter" in gaps["Bash(git push:*)"]
    assert uncontained(policy(allow=["Edit(src/**)", "Bash(make)"], ask=["Edit(db/**)"])) == {}


def test_where_no_command_can_run_everything_is_contained() -> None:
    assert uncontained(policy(allow=["Read", "Edit(src/**)"], deny=["Edit(*.lock)", "Read(.git/**)"])) == {}


def test_what_commands_get_less_of_than_the_tools_is_noted() -> None:
    notes = containment(policy(allow=["Edit(src/**)", "Edit(*.md)", "Bash(make)"])).notes
    assert len(notes) == 1
    assert "Edit(*.md)" in notes[0]


def test_a_gap_names_the_place_of_its_rule() -> None:
    rules = policy("blacklist", deny=["Bash(curl:*)"]).located(lambda path: "ci.yaml:7:3")
    assert containment(rules).uncontained[0].where == "ci.yaml:7"
