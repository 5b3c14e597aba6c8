"""A call as people write it: `Bash(git push)`, `Edit(src/a.py)`, `WebFetch(https://example.org/)`.

What stands in the parentheses is the subject itself, not a pattern: `Read(/etc/passwd)` is that file.
"""

from __future__ import annotations

import posixpath
import re

from runner.document.words import shown
from runner.policy.paths import HOME, normal
from runner.policy.rules import canonical_tool, no_such_tool
from runner.policy.verdicts import Call


def parse_call(text: str) -> Call:
    """Raises ValueError saying what is wrong with it."""
    found = re.fullmatch(r"\s*([\w.*-]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if not found:
        raise ValueError(f"{shown(text)} is not a call; write Tool(subject), such as Bash(git push) or Read(src/a.py)")
    tool, subject = canonical_tool(found[1]), found[2]
    if tool is None:
        raise ValueError(no_such_tool(found[1]))
    match tool:
        case "BashOutput" | "KillBash":
            return Call(tool=tool, subject="")
        case "Agent":
            return Call(tool=tool, subject="", parameters=_parameters(subject or ""))
        case _ if tool.startswith("mcp__"):
            return Call(tool=tool, subject="")
    if not subject:
        raise ValueError(f"{tool} of what? write {tool}({_EXAMPLES.get(tool, 'src/a.py')})")
    return Call(tool=tool, subject=subject if tool in _EXAMPLES else _path(subject))


_EXAMPLES = {"Bash": "git push", "WebFetch": "https://example.org/"}


def _path(subject: str) -> str:
    """Absolute: a relative one starts at the repository."""
    inside = posixpath.join(HOME, subject[2:]) if subject.startswith("~/") else subject
    return normal(inside) or "/"


def _parameters(subject: str) -> dict[str, str]:
    pairs = [pair.strip().partition(":") for pair in subject.split(",")] if subject else []
    if wrong := next((name for name, colon, _ in pairs if not colon), None):
        raise ValueError(f"{shown(wrong)} is not a parameter and its value; write Agent(model:haiku)")
    return {name: value for name, _, value in pairs}
