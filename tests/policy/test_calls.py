"""Calls as people write them, in tests of policies and on the command line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.policy import Call, parse_call


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("Bash(git push)", Call(tool="Bash", subject="git push")),
        ("bash(echo $(ls))", Call(tool="Bash", subject="echo $(ls)")),
        ("Bash(cat <<E\na)\nE\n)", Call(tool="Bash", subject="cat <<E\na)\nE\n")),
        ("Edit(src/a.py)", Call(tool="Edit", subject="/workspace/repo/src/a.py")),
        ("write_file(./a/../b)", Call(tool="Write", subject="/workspace/repo/b")),
        ("Read(/etc/passwd)", Call(tool="Read", subject="/etc/passwd")),
        ("Read(~/.netrc)", Call(tool="Read", subject="/workspace/home/.netrc")),
        ("Grep(.)", Call(tool="Grep", subject="/workspace/repo")),
        ("Glob(/)", Call(tool="Glob", subject="/")),
        ("WebFetch(https://example.org/a(b))", Call(tool="WebFetch", subject="https://example.org/a(b)")),
        ("BashOutput", Call(tool="BashOutput", subject="")),
        ("Agent", Call(tool="Agent", subject="")),
        ("Task(model:haiku, type:x)", Call(tool="Agent", subject="", parameters={"model": "haiku", "type": "x"})),
        ("MCP__GitHub__Get", Call(tool="mcp__github__get", subject="")),
    ],
)
def test_a_call_is_a_tool_and_its_subject(text: str, call: Call) -> None:
    assert parse_call(text) == call


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "'' is not a call; write Tool(subject), such as Bash(git push)"),
        ("git push", "is not a call"),
        ("Bash(ls", "is not a call"),
        ("Raed(a)", "there is no tool 'Raed'; did you mean Read?"),
        ("mcp__github", "names no tool of an MCP server"),
        ("mcp__github__*", "names no tool of an MCP server"),
        ("Bash", "Bash of what? write Bash(git push)"),
        ("Read()", "Read of what? write Read(src/a.py)"),
        ("Agent(Explore)", "'Explore' is not a parameter and its value; write Agent(model:haiku)"),
    ],
)
def test_what_is_no_call_is_said_with_what_to_write(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        parse_call(text)


@given(st.text(max_size=40))
def test_any_text_is_a_call_or_a_value_error(text: str) -> None:
    for written in (text, f"Bash({text})", f"Read({text})", f"Agent({text})"):
        try:
            parse_call(written)
        except ValueError as error:
            assert str(error)  # noqa: PT017
