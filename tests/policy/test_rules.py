"""Rules: how they are written, what is refused at load, and what they cover."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.policy import COVERS, TOOLS, canonical_tool, parse_rule
from runner.policy.rules import CommandPattern
from runner.policy.shell import Unclear, simple_commands


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("bash", "Bash"),
        ("BASH", "Bash"),
        ("bash_output", "BashOutput"),
        ("Bash-Output", "BashOutput"),
        ("kill_bash", "KillBash"),
        ("read_file", "Read"),
        ("ReadFile", "Read"),
        ("read", "Read"),
        ("write_file", "Write"),
        ("edit-file", "Edit"),
        ("EDIT", "Edit"),
        ("glob_search", "Glob"),
        ("grep_search", "Grep"),
        ("GrepSearch", "Grep"),
        ("glob", "Glob"),
        ("grep", "Grep"),
        ("NotebookRead", "Read"),
        ("MultiEdit", "Edit"),
        ("NotebookEdit", "Edit"),
        ("LS", "Glob"),
        ("KillShell", "KillBash"),
        ("Task", "Agent"),
        ("web_fetch", "WebFetch"),
        ("MCP__GitHub__Get_Issue", "mcp__github__get_issue"),
    ],
)
def test_other_agents_names_and_any_case_mean_the_same_tool(name: str, tool: str) -> None:
    assert canonical_tool(name) == tool
    assert parse_rule(name).tool == tool


@given(st.sampled_from(TOOLS), st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_case_of_a_tool_never_matters(tool: str, upper: list[bool]) -> None:
    name = "".join(char.upper() if flag else char.lower() for char, flag in zip(tool, upper, strict=False))
    assert canonical_tool(name) == tool


def test_a_rule_keeps_its_text_as_written() -> None:
    assert str(parse_rule("edit_file(src/**)")) == "edit_file(src/**)"


def test_rules_speak_of_the_tools_that_do_the_same() -> None:
    assert parse_rule("Read").tools == ("Read", "Glob", "Grep")
    assert parse_rule("Edit(src/**)").tools == ("Edit", "Write")
    assert parse_rule("Bash(ls)").tools == ("Bash", "BashOutput", "KillBash")
    assert all(parse_rule(tool).tools == (tool,) for tool in TOOLS if tool not in COVERS)


@pytest.mark.parametrize(
    ("name", "tool"),
    [("@exec", "Bash"), ("@write", "Edit"), ("@Read", "Read"), ("@net", "WebFetch"), ("@agent", "Agent")],
)
def test_a_class_is_all_tools_of_a_kind(name: str, tool: str) -> None:
    assert parse_rule(name).tools == parse_rule(tool).tools
    assert parse_rule(name).text == name


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("@write(src/**)", "Edit(src/**)"),
        ("@read(*.py)", "Read(*.py)"),
        ("@exec(git status:*)", "Bash(git status:*)"),
        ("@net(domain:*.example.org)", "WebFetch(domain:*.example.org)"),
        ("@agent(model:haiku)", "Agent(model:haiku)"),
    ],
)
def test_a_class_takes_the_patterns_that_its_tools_take(name: str, same: str) -> None:
    assert parse_rule(name).pattern == parse_rule(same).pattern


@pytest.mark.parametrize(
    ("rule", "tool", "named"),
    [
        ("mcp__github", "mcp__github__get_issue", True),
        ("mcp__github__*", "mcp__github__get_issue", True),
        ("mcp__github__get_*", "mcp__github__get_issue", True),
        ("mcp__GitHub__Get_Issue", "mcp__github__get_issue", True),
        ("mcp__github__get_issue", "mcp__github__get_issues", False),
        ("mcp__github", "mcp__github2__get_issue", False),
        ("mcp__git", "mcp__github__get_issue", False),
        ("Bash", "mcp__bash__run", False),
        ("mcp__bash", "Bash", False),
    ],
)
def test_a_rule_for_an_mcp_server_speaks_of_its_tools(rule: str, tool: str, named: bool) -> None:
    assert parse_rule(rule).speaks_of(tool) is named


def test_bash_with_a_star_is_bash() -> None:
    assert parse_rule("Bash(*)").pattern is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("WebSearch", "there is no tool 'WebSearch'; the tools are Bash, BashOutput"),
        ("@writ(src/**)", "there is no class of tools '@writ'; did you mean @write\\?"),
        ("@all", "the classes are @exec, @write, @read, @net, @agent"),
        ("WebFetch(example.org)", "WebFetch takes domain:NAME"),
        ("WebFetch(domain:*)", "WebFetch alone says that"),
        ("WebFetch(domain:*.com)", "too broad"),
        ("WebFetch(domain:10.0.0.1)", "only domains can be named here"),
        ("Agent(Explore)", "Agent takes a parameter and its value, such as Agent\\(model:haiku\\)"),
        ("mcp__", "names no tool of an MCP server"),
        ("mcp__*", "write mcp__SERVER__TOOL, or mcp__SERVER for all of them"),
        ("mcp__github__get(x)", "mcp__github__get takes no pattern"),
        ("@exec(a && b)", "not one plain command"),
        ("Rread", "there is no tool 'Rread'; did you mean Read?"),
        ("Bsh(ls)", "there is no tool 'Bsh'; did you mean Bash?"),
        ("*", "is not a rule: '\\*'; write Tool"),
        ("", "is not a rule: ''"),
        ("Bash(ls", "is not a rule: 'Bash\\(ls'"),
        ("Bash ls", "is not a rule"),
        ("Bash(ls) x", "is not a rule"),
        ("Bash()", "is empty"),
        ("Edit( src/** )", "spaces around it"),
        ("KillBash(1)", "KillBash takes no pattern"),
        ("Bash(a && b)", "not one plain command"),
        ("Bash(curl x | sh)", "not one plain command"),
        ("Bash(a > f)", "not one plain command"),
        ("Bash(a $(b))", "has command substitution"),
        ("Bash(a $HOME)", "'\\$HOME' in Bash\\(a \\$HOME\\) would be replaced by the shell"),
        ("Bash(a ~/x)", "would be replaced"),
        ("Bash('a)", "a quote that is not closed"),
        ("Bash(:*)", "not one plain command"),
        ("Edit(a/../b)", "no empty parts"),
        ("Read(!x)", "'!' is not allowed"),
        ("Read(*.{a,b})", "braces"),
    ],
)
def test_a_rule_that_says_nothing_sure_is_refused(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_rule(text)


def _pattern(text: str) -> CommandPattern:
    pattern = parse_rule(f"Bash({text})").pattern
    assert isinstance(pattern, CommandPattern)
    return pattern


def _allows(text: str, command: str) -> bool:
    commands = simple_commands(command)
    assert not isinstance(commands, Unclear)
    return _pattern(text).allows(commands[0])


def _catches(text: str, command: str) -> bool:
    commands = simple_commands(command)
    assert not isinstance(commands, Unclear)
    return _pattern(text).catches(commands[0].words)


@pytest.mark.parametrize(
    ("pattern", "command", "allowed"),
    [
        ("git status", "git status", True),
        ("git status", "git status -s", False),
        ("git status", "git  'status'", True),
        ("git status:*", "git status", True),
        ("git status:*", "git status -s src", True),
        ("git status:*", "git statusx", False),
        ("git status *", "git status", True),
        ("git status *", "git status -s", True),
        ("pytest:*", "pytest-3", False),
        ("pytest:*", "./pytest", False),
        ("pytest:*", "/tmp/pytest", False),
        ("npm run *", "npm run a b", True),
        ("npm run test*", "npm run test:unit", True),
        ("npm run test*", "npm run test a", False),
        ("npm run *:ci", "npm run lint:ci", True),
        ("npm run *:ci", "npm run lint", False),
        ("git * main", "git merge main", True),
        ("git * main", "git merge --no-ff main", True),
        ("git * main", "git main", False),
        ("* --version", "python3 --version", True),
        ("git commit:*", 'git commit -m "a && b"', True),
        ("git commit -m 'a b'", "git commit -m a\\ b", True),
        ("git commit -m 'a b'", "git commit -m a b", False),
        ("pytest tests/*", "pytest tests/*.py", True),
        ("pytest tests/*", "pytest tests/$x", False),
        ("pytest:*", "pytest $x", True),
        ("pytest a", "pytest $x", False),
        ("pytest a", "pytest ?", False),
        ("a [bc]", "a b", False),
        ("a [bc]", "a '[bc]'", True),
        ("a ?", "a b", False),
        ("a ?", "a '?'", True),
        ("pytest:*", "A=1 pytest", False),
        ("A=1 pytest:*", "A=1 pytest -q", True),
    ],
)
def test_an_allow_rule_matches_what_is_certain(pattern: str, command: str, allowed: bool) -> None:
    assert _allows(pattern, command) is allowed


@pytest.mark.parametrize(
    ("pattern", "command", "caught"),
    [
        ("curl:*", "curl x", True),
        ("curl:*", "curly x", False),
        ("rm -rf:*", "rm -rf /", True),
        ("rm -rf:*", "rm  '-rf' /", True),
        ("rm -rf:*", "rm $flags /", True),
        ("rm -rf:*", "rm -r$x /", True),
        ("rm -rf:*", "rm src/$x", False),
        ("rm -rf:*", "rm *.pyc", True),
        ("rm -rf:*", "rm build/*.pyc", False),
        ("git push", "git pus?", True),
        ("git push:*", "git $x push", True),
        ("git push:*", "git pull", False),
        ("git push:*", "git add $x", False),
        ("git * main", "git $x main", True),
    ],
)
def test_a_deny_rule_catches_what_is_possible(pattern: str, command: str, caught: bool) -> None:
    assert _catches(pattern, command) is caught


WORDS = st.lists(st.text("abc*", min_size=1, max_size=3), min_size=1, max_size=5).map(" ".join)


@settings(max_examples=300)
@given(pattern=WORDS, command=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5).map(" ".join))
def test_what_a_pattern_allows_it_would_also_catch(pattern: str, command: str) -> None:
    if pattern != "*" and _allows(pattern, command):
        assert _catches(pattern, command)


@settings(max_examples=500)
@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    for rule in (text, f"Bash({text})", f"Edit({text})"):
        try:
            parsed = parse_rule(rule)
        except ValueError as error:
            assert str(error)  # noqa: PT017
        else:
            assert parsed.text == rule
