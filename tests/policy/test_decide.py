"""Decisions: deny beats allow beats the mode, whatever the order of the rules."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.policy import TOOLS, Call, Decision, Policy, can_ever_allow, decide, load_policy, parse_rule

Mode = Literal["whitelist", "blacklist", "interactive"]


def policy(
    mode: Mode = "whitelist",
    *,
    allow: list[str] | None = None,
    ask: list[str] | None = None,
    deny: list[str] | None = None,
) -> Policy:
    rules = {"allow": allow, "ask": ask, "deny": deny}
    return Policy(
        version=1, mode=mode, **{key: [parse_rule(text) for text in given or []] for key, given in rules.items()}
    )


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
        "@write(a/**)",
        "@exec",
        "WebFetch",
        "WebFetch(domain:*.example.org)",
        "WebFetch(domain:example.org:8443)",
        "Agent(model:small)",
        "Agent",
        "mcp__a",
        "mcp__a__x",
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
    st.builds(Call, tool=st.sampled_from(["BashOutput", "KillBash", "mcp__a__x", "mcp__a__y"]), subject=st.just("")),
    st.builds(
        Call,
        tool=st.just("Agent"),
        subject=st.just(""),
        parameters=st.sampled_from([{}, {"model": "small"}, {"model": "large"}]),
    ),
    st.builds(
        Call,
        tool=st.just("WebFetch"),
        subject=st.sampled_from(
            ["https://example.org/", "https://a.example.org", "http://example.org:8443/x", "https://10.0.0.1/", "x"]
        ),
    ),
)
MODES: st.SearchStrategy[Mode] = st.sampled_from(["whitelist", "blacklist", "interactive"])
STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}
MANY = settings(max_examples=400, deadline=None)


@MANY
@given(mode=MODES, allow=RULE_LISTS, ask=RULE_LISTS, deny=RULE_LISTS, extra=RULES, call=CALLS)
def test_a_deny_rule_never_makes_a_decision_laxer(
    mode: Mode, allow: list[str], ask: list[str], deny: list[str], extra: str, call: Call
) -> None:
    before = decide(policy(mode, allow=allow, ask=ask, deny=deny), call)
    after = decide(policy(mode, allow=allow, ask=ask, deny=[*deny, extra]), call)
    assert STRICTNESS[after.verdict] >= STRICTNESS[before.verdict]


@MANY
@given(mode=MODES, allow=RULE_LISTS, ask=RULE_LISTS, deny=RULE_LISTS, extra=RULES, call=CALLS)
def test_an_allow_rule_never_makes_a_decision_stricter(
    mode: Mode, allow: list[str], ask: list[str], deny: list[str], extra: str, call: Call
) -> None:
    before = decide(policy(mode, allow=allow, ask=ask, deny=deny), call)
    after = decide(policy(mode, allow=[*allow, extra], ask=ask, deny=deny), call)
    assert STRICTNESS[after.verdict] <= STRICTNESS[before.verdict]


@MANY
@given(mode=MODES, allow=RULE_LISTS, ask=RULE_LISTS, deny=RULE_LISTS, extra=RULES, call=CALLS)
def test_an_ask_rule_never_allows_anything(
    mode: Mode, allow: list[str], ask: list[str], deny: list[str], extra: str, call: Call
) -> None:
    before = decide(policy(mode, allow=allow, ask=ask, deny=deny), call)
    after = decide(policy(mode, allow=allow, ask=[*ask, extra], deny=deny), call)
    reading_output, does_nothing = call.tool in ("BashOutput", "KillBash"), after.rule is None
    assert before.allowed or reading_output or does_nothing or not after.allowed


@MANY
@given(mode=MODES, allow=RULE_LISTS, ask=RULE_LISTS, deny=RULE_LISTS, call=CALLS)
def test_a_person_is_never_asked_about_what_is_denied(
    mode: Mode, allow: list[str], ask: list[str], deny: list[str], call: Call
) -> None:
    if decide(policy("blacklist", allow=["WebFetch"], deny=deny), call).verdict == "deny":
        assert decide(policy(mode, allow=allow, ask=ask, deny=deny), call).verdict == "deny"


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
@given(mode=MODES, allow=RULE_LISTS, ask=RULE_LISTS, deny=RULE_LISTS, call=CALLS)
def test_a_tool_that_can_never_be_allowed_is_always_denied(
    mode: Mode, allow: list[str], ask: list[str], deny: list[str], call: Call
) -> None:
    judged = policy(mode, allow=allow, ask=ask, deny=deny)
    if decide(judged, call).verdict != "deny":
        assert can_ever_allow(judged, call.tool)


@MANY
@given(mode=MODES, allow=RULE_LISTS, ask=RULE_LISTS, deny=RULE_LISTS, call=CALLS)
def test_every_decision_has_a_reason_on_one_line(
    mode: Mode, allow: list[str], ask: list[str], deny: list[str], call: Call
) -> None:
    decision = decide(policy(mode, allow=allow, ask=ask, deny=deny), call)
    assert decision.reason
    assert decision.allowed or "\n" not in decision.reason


@MANY
@given(mode=MODES, allow=RULE_LISTS, ask=RULE_LISTS, deny=RULE_LISTS, call=CALLS)
def test_what_is_suggested_would_be_a_step_towards_allowing_it(
    mode: Mode, allow: list[str], ask: list[str], deny: list[str], call: Call
) -> None:
    decision = decide(policy(mode, allow=allow, ask=ask, deny=deny), call)
    if decision.suggestion:
        after = decide(policy(mode, allow=[*allow, decision.suggestion], ask=ask, deny=deny), call)
        assert STRICTNESS[after.verdict] < STRICTNESS[decision.verdict]


# --- Modes and tools ---


def test_a_whitelist_without_rules_allows_nothing() -> None:
    assert not any(can_ever_allow(policy(), tool) for tool in TOOLS)
    assert not any(bash(policy(), command).allowed for command in ("true", "# nothing", ""))


def test_a_command_that_does_nothing_is_allowed_where_commands_are() -> None:
    assert bash(policy(allow=["Bash(ls)"]), "# nothing").allowed


def test_a_blacklist_without_rules_allows_all_but_the_web() -> None:
    judged = policy("blacklist")
    assert [tool for tool in TOOLS if not can_ever_allow(judged, tool)] == ["WebFetch"]
    assert bash(judged, "x=$(curl y); (eval $x)").allowed


@pytest.mark.parametrize("tool", ["WebSearch", "bash", "mcp__", "MCP__A__X", "mcp__a__*", ""])
@pytest.mark.parametrize("mode", ["whitelist", "blacklist", "interactive"])
def test_a_tool_that_is_not_known_is_denied_in_every_mode(tool: str, mode: Mode) -> None:
    judged = policy(mode, allow=["Bash", "mcp__a"])
    assert decide(judged, Call(tool=tool, subject="x")).verdict == "deny"
    assert not can_ever_allow(judged, tool)


def test_interactive_asks_about_what_no_rule_names() -> None:
    judged = policy("interactive", allow=["Read", "Bash(ls:*)"], deny=["Edit(.github/**)"])
    assert decide(judged, Call(tool="Read", subject="/workspace/repo/a")).verdict == "allow"
    assert decide(judged, Call(tool="Edit", subject="/workspace/repo/a")).verdict == "ask"
    assert decide(judged, Call(tool="Edit", subject="/workspace/repo/.github/x")).verdict == "deny"
    assert decide(judged, Call(tool="Agent", subject="")).verdict == "ask"
    assert all(can_ever_allow(judged, tool) for tool in TOOLS)


def test_an_ask_rule_is_named_with_its_place_and_beats_what_allows(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nmode: blacklist\nallow: ['Edit(src/**)']\nask:\n  - Edit(src/a.py)\n")
    assert decide(load_policy(file).value, Call(tool="Write", subject="/workspace/repo/src/a.py")) == Decision(
        verdict="ask",
        rule="Edit(src/a.py)",
        where=f"{file}:5",
        reason="by the rule Edit(src/a.py) a person is asked",
    )


def test_what_a_person_let_start_may_be_read_and_stopped_without_asking_again() -> None:
    for judged in (policy(ask=["Bash(sleep:*)"]), policy("interactive")):
        for tool in ("BashOutput", "KillBash"):
            assert decide(judged, Call(tool=tool, subject="")).verdict == "allow"
    assert decide(policy(allow=["Bash"], ask=["KillBash"]), Call(tool="KillBash", subject="")).verdict == "ask"


@pytest.mark.parametrize(
    ("model", "verdict"),
    [("small", "allow"), ("smaller", "deny"), ("large-2", "ask"), ("huge", "deny"), (None, "deny")],
)
def test_rules_name_parameters_of_a_call(model: str | None, verdict: str) -> None:
    judged = policy(allow=["Agent(model:small)"], ask=["Agent(model:large*)"], deny=["Agent(model:huge)"])
    call = Call(tool="Agent", subject="", parameters={"model": model} if model else {})
    assert decide(judged, call).verdict == verdict


def test_whoever_may_use_bash_may_read_and_stop_what_it_started() -> None:
    judged = policy(allow=["Bash(sleep:*)"], deny=["Bash(rm:*)"])
    assert decide(judged, Call(tool="BashOutput", subject="")).allowed
    assert decide(judged, Call(tool="KillBash", subject="")).allowed
    assert not decide(policy(allow=["Bash"], deny=["KillBash"]), Call(tool="KillBash", subject="")).allowed


def test_a_tool_denied_as_a_whole_is_not_offered() -> None:
    judged = policy("blacklist", allow=["WebFetch"], deny=["Edit", "Bash(rm:*)", "Read(**/.env)"])
    assert [tool for tool in TOOLS if not can_ever_allow(judged, tool)] == ["Write", "Edit"]


def test_a_decision_names_the_rule_and_its_place(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "version: 1\nmode: whitelist\nallow:\n  - Bash(ls:*)\n  - bash(cat:*)\ndeny: ['Read(x)', 'Bash(ls -l)']\n"
    )
    judged = load_policy(file).value
    assert bash(judged, "ls a | cat") == Decision(
        verdict="allow",
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
        ("ls > f", "of the redirection '> f': no rule allows Write of '/workspace/repo/f'"),
        ("ls $(x)", "no rule allows 'x'; the policy would need a rule such as Bash(x:*)"),
        ("ls <(", "which this policy cannot judge; use plain commands"),
        ("find . -delete", "with '-delete' find may write files or run other programs, so a rule must name that word"),
    ],
)
def test_the_reason_tells_the_model_what_would_be_needed(command: str, said: str) -> None:
    assert said in bash(policy(allow=["Bash(git status:*)", "Bash(ls:*)", "Bash(find:*)"]), command).reason


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
