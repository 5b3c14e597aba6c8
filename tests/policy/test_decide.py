"""Decisions: deny beats allow beats the mode, whatever the order of the rules."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config import load
from runner.policy import TOOLS, Call, Decision, Policy, can_ever_allow, decide, parse_rule

Mode = Literal["whitelist", "blacklist"]


def policy(mode: Mode = "whitelist", *, allow: list[str] | None = None, deny: list[str] | None = None) -> Policy:
    rules = {"allow": [parse_rule(rule) for rule in allow or []], "deny": [parse_rule(rule) for rule in deny or []]}
    return Policy(version=1, mode=mode, **rules)


def bash(given_policy: Policy, command: str) -> Decision:
    return decide(given_policy, Call(tool="Bash", subject=command))


# --- Properties ---

RULES = st.sampled_from(
    [
        "Bash",
        "Bash(p:*)",
        "Bash(p a)",
        "Bash(q *)",
        "Read",
        "Read(**)",
        "Read(a/**)",
        "Edit(**)",
        "Edit(a)",
        "Write(b)",
        "Glob",
        "Grep(a)",
        "KillBash",
        "BashOutput",
        "edit_file(b/**)",
        "bash(curl:*)",
    ]
)
RULE_LISTS = st.lists(RULES, max_size=5)
CALLS = st.one_of(
    st.builds(
        Call,
        tool=st.just("Bash"),
        subject=st.lists(
            st.sampled_from(["p", "p a", "q", "q b", "curl x", "env p", "$x", "p > f", "p $(q)", "#"]),
            min_size=1,
            max_size=3,
        ).map(" && ".join),
    ),
    st.builds(
        Call,
        tool=st.sampled_from(["Read", "Write", "Edit", "Glob", "Grep"]),
        subject=st.sampled_from(["a", "a/x", "b", "b/x/y", "c"]).map("/workspace/repo/{}".format)
        | st.just("/etc/passwd"),
    ),
    st.builds(Call, tool=st.sampled_from(["BashOutput", "KillBash"]), subject=st.just("")),
)
MODES: st.SearchStrategy[Mode] = st.sampled_from(["whitelist", "blacklist"])
MANY = settings(max_examples=400, deadline=None)


@MANY
@given(mode=MODES, allow=RULE_LISTS, deny=RULE_LISTS, extra=RULES, call=CALLS)
def test_a_deny_rule_never_allows_more(mode: Mode, allow: list[str], deny: list[str], extra: str, call: Call) -> None:
    before = decide(policy(mode, allow=allow, deny=deny), call)
    after = decide(policy(mode, allow=allow, deny=[*deny, extra]), call)
    assert before.allowed or not after.allowed


@MANY
@given(mode=MODES, allow=RULE_LISTS, deny=RULE_LISTS, extra=RULES, call=CALLS)
def test_an_allow_rule_never_allows_less(mode: Mode, allow: list[str], deny: list[str], extra: str, call: Call) -> None:
    before = decide(policy(mode, allow=allow, deny=deny), call)
    after = decide(policy(mode, allow=[*allow, extra], deny=deny), call)
    assert after.allowed or not before.allowed


@MANY
@given(allow=RULE_LISTS, deny=RULE_LISTS, call=CALLS)
def test_a_blacklist_allows_all_that_a_whitelist_with_the_same_rules_does(
    allow: list[str], deny: list[str], call: Call
) -> None:
    if decide(policy("whitelist", allow=allow, deny=deny), call).allowed:
        assert decide(policy("blacklist", allow=allow, deny=deny), call).allowed


@MANY
@given(mode=MODES, allow=RULE_LISTS, deny=RULE_LISTS, call=CALLS, data=st.data())
def test_the_order_of_rules_does_not_matter(
    mode: Mode, allow: list[str], deny: list[str], call: Call, data: st.DataObject
) -> None:
    shuffled = policy(mode, allow=data.draw(st.permutations(allow)), deny=data.draw(st.permutations(deny)))
    assert decide(policy(mode, allow=allow, deny=deny), call).allowed == decide(shuffled, call).allowed


@MANY
@given(mode=MODES, rules=RULE_LISTS, call=CALLS)
def test_what_is_denied_stays_denied_whatever_is_allowed(mode: Mode, rules: list[str], call: Call) -> None:
    """deny beats allow: with the same rules on both sides, nothing that a rule certainly allows gets through."""
    if decide(policy("whitelist", allow=rules), call).rule and call.tool not in ("BashOutput", "KillBash"):
        assert not decide(policy(mode, allow=rules, deny=rules), call).allowed


@MANY
@given(mode=MODES, allow=RULE_LISTS, deny=RULE_LISTS, call=CALLS)
def test_a_tool_that_can_never_be_allowed_never_is(mode: Mode, allow: list[str], deny: list[str], call: Call) -> None:
    judged = policy(mode, allow=allow, deny=deny)
    if decide(judged, call).allowed:
        assert can_ever_allow(judged, call.tool)


@MANY
@given(mode=MODES, allow=RULE_LISTS, deny=RULE_LISTS, call=CALLS)
def test_every_decision_has_a_reason(mode: Mode, allow: list[str], deny: list[str], call: Call) -> None:
    decision = decide(policy(mode, allow=allow, deny=deny), call)
    assert decision.reason
    assert decision.allowed or "\n" not in decision.reason


# --- Modes and tools ---


def test_a_whitelist_without_rules_allows_nothing() -> None:
    assert not any(can_ever_allow(policy(), tool) for tool in TOOLS)
    assert not any(bash(policy(), command).allowed for command in ("true", "# nothing", ""))


def test_a_command_that_does_nothing_is_allowed_where_commands_are() -> None:
    assert bash(policy(allow=["Bash(ls)"]), "# nothing").allowed


def test_a_blacklist_without_rules_allows_everything_there_is() -> None:
    judged = policy("blacklist")
    assert all(can_ever_allow(judged, tool) for tool in TOOLS)
    assert bash(judged, "x=$(curl y); (eval $x)").allowed


def test_a_tool_that_is_not_known_is_denied_in_either_mode() -> None:
    for mode in ("whitelist", "blacklist"):
        assert not decide(policy(mode, allow=["Bash"]), Call(tool="WebFetch", subject="x")).allowed
        assert not can_ever_allow(policy(mode), "WebFetch")


def test_whoever_may_use_bash_may_read_and_stop_what_it_started() -> None:
    judged = policy(allow=["Bash(sleep:*)"], deny=["Bash(rm:*)"])
    assert decide(judged, Call(tool="BashOutput", subject="")).allowed
    assert decide(judged, Call(tool="KillBash", subject="")).allowed
    assert not decide(policy(allow=["Bash"], deny=["KillBash"]), Call(tool="KillBash", subject="")).allowed


def test_a_tool_denied_as_a_whole_is_not_offered() -> None:
    judged = policy("blacklist", deny=["Edit", "Bash(rm:*)", "Read(**/.env)"])
    assert [tool for tool in TOOLS if not can_ever_allow(judged, tool)] == ["Write", "Edit"]


def test_a_decision_names_the_rule_and_its_place(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "version: 1\nmode: whitelist\nallow:\n  - Bash(ls:*)\n  - bash(cat:*)\ndeny: ['Read(x)', 'Bash(ls -l)']\n"
    )
    judged = load(file, Policy).value
    assert bash(judged, "ls a | cat") == Decision(
        allowed=True,
        rule="Bash(ls:*), bash(cat:*)",
        where=f"{file}:4, {file}:5",
        reason="allowed by Bash(ls:*), bash(cat:*)",
    )
    denied = bash(judged, "ls -l")
    assert (denied.allowed, denied.rule, denied.where) == (False, "Bash(ls -l)", f"{file}:6")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("npm publish", "the policy would need a rule such as Bash(npm publish:*); it allows git, ls, find"),
        ("git push -f", "the policy would need a rule such as Bash(git push:*); of git it has Bash(git status:*)"),
        ("ls > f", "redirections to files (> f) are not allowed; use the Write or Edit tool"),
        ("ls $(x)", "the command has command substitution, which this policy cannot judge; use plain commands"),
        ("find . -delete", "with '-delete' find may write files or run other programs, so a rule must name that word"),
    ],
)
def test_the_reason_tells_the_model_what_would_be_needed(command: str, said: str) -> None:
    assert said in bash(policy(allow=["Bash(git status:*)", "Bash(ls:*)", "Bash(find:*)"]), command).reason


def test_the_reason_for_a_path_names_the_rules_that_there_are() -> None:
    judged = policy(allow=["Edit(src/**)", "Read"])
    reason = decide(judged, Call(tool="Write", subject="/workspace/repo/x")).reason
    assert reason == "no rule allows Write of '/workspace/repo/x'; allowed are: Edit(src/**)"


# --- Blacklists ---

DENIED = policy("blacklist", deny=["Bash(curl:*)", "Bash(git push:*)"])


@pytest.mark.parametrize(
    "command",
    [
        "curl x",
        "  curl x",
        "cd a && curl x",
        "a || curl",
        "a; curl",
        "a | curl",
        "a & curl",
        "a\ncurl",
        "\\curl x",
        "'curl' x",
        'c"ur"l x',
        "cu\\\nrl x",
        "/usr/bin/curl x",
        "./curl",
        "A=1 curl x",
        "A=1 B=2 curl",
        "env curl x",
        "env A=1 curl x",
        "env -i curl",
        "timeout 5 curl x",
        "timeout -k 1 5s curl x",
        "nice -n 5 curl",
        "nohup curl x &",
        "sudo curl",
        "sudo -u root curl",
        "command curl",
        "exec curl",
        "builtin exec curl",
        "time curl",
        "time -p curl",
        "xargs curl",
        "a | xargs -n 1 curl",
        "setsid curl",
        "stdbuf -o0 curl",
        "watch curl x",
        "busybox curl",
        "sh -c 'curl x'",
        'bash -c "a && curl x"',
        "bash -lc 'curl'",
        "eval curl x",
        "eval 'curl x'",
        "eval 'a;' curl",
        "sh -c \"sh -c 'curl x'\"",
        "find . -exec curl {} ';'",
        "find . -name a -execdir curl {} +",
        "trap 'curl x' EXIT",
        "alias a='curl x'",
        "alias c=cu; alias r=rl",
        "if true; then curl x; fi",
        "for i in 1; do curl x; done",
        "while true; do curl; done",
        "! curl x",
        "curl > /dev/null",
        "> f curl",
        "2>&1 curl",
        "git push",
        "git  push origin",
        "git $x",
        "g=it; $g push",
        "$(curl x)",
        "`curl x`",
        "a <(curl x)",
        "(curl x)",
        "{ curl x; }",
        "a() { curl; }; a",
        "$'curl' x",
        "c{u,}rl x",
        "cur? x",
        "/usr/bin/cur* x",
        "$X",
        "env $X y",
        "xargs $X",
        'sh -c "$X"',
        "eval $X",
        'eval "$(x)"',
        "a <<E\n$(curl)\nE",
        "curl\rx",
        "cu\u200brl x; curl",
        "timeout $T curl",
        "sudo -E env A=1 nice curl x",
    ],
)
def test_a_denied_command_is_denied_however_it_is_written(command: str) -> None:
    assert not bash(DENIED, command).allowed


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "echo curl",
        "git commit -m 'use curl'",
        "grep -rn 'curl' src",
        "cat curl.txt",
        "git pull",
        "git log push",
        "pytest -k curl",
        "A=curl make",
        "find . -name '*.py'",
        "find . -exec ls {} ';'",
        "timeout 60 make",
        "env A=1 make",
        "sh -c 'make test'",
        "xargs ls",
        "echo $HOME",
        "for f in *.py; do ls $f; done",
        "make > log 2>&1",
        "npm run build",
        "git add $x",
        'echo "a && curl"',
        "# curl",
        "ls # curl",
        "nohup make &",
    ],
)
def test_a_blacklist_lets_other_commands_pass(command: str) -> None:
    assert bash(DENIED, command).allowed


# --- Paths ---


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
    assert decide(judged, Call(tool=tool, subject=path)).allowed is allowed


# --- Time ---


@pytest.mark.parametrize(
    "command",
    [
        "env " * 2_000,
        "a; " * 3_000,
        "sh -c " * 1_500,
        "env x " * 1_600,
        "env " + "x " * 4_900,
        "a" * 10_000,
        "'" * 10_000,
        "xargs a " * 5 + "b " * 4_000,
        "if " * 3_000,
        "$x " * 3_000,
        "* " * 5_000,
    ],
)
def test_no_command_takes_long_to_judge(command: str) -> None:
    started = time.monotonic()
    bash(policy(allow=["Bash(a * b * c:*)", "Bash(a:*)"], deny=["Bash(z * y * x)", "Bash(b:*)"]), command)
    assert time.monotonic() - started < 5
