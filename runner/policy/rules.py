"""One rule: `Tool` or `Tool(pattern)`, as in Claude Code's settings (https://docs.anthropic.com/en/docs/claude-code/iam).

Read(**)               files, in .gitignore's patterns; covers Read, Glob and Grep
Edit(src/**)           covers Edit and Write
Bash(git status)       this command
Bash(git diff:*)       the command, and anything after it (`Bash(git diff *)` is the same)
Bash(npm run *:ci)     `*` within a word; as a word between others, one or more words
WebFetch(domain:*.example.org)   pages of these hosts
Agent(model:haiku)     a parameter of the call; `*` is any text
mcp__server__tool      a tool of an MCP server; `mcp__server` is all of them
@write(src/**)         a class of tools
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from runner.document.words import near, shown
from runner.policy.command_pattern import CommandPattern, parse_command
from runner.policy.domains import DomainPattern, parse_domain
from runner.policy.paths import PathPattern, parse_path

ToolName = Literal["Bash", "BashOutput", "KillBash", "Read", "Write", "Edit", "Glob", "Grep", "WebFetch", "Agent"]
TOOLS: tuple[ToolName, ...] = get_args(ToolName)
"""What policies can speak of, besides the tools of MCP servers (`mcp__server__tool`); which there are in a job is told
by runner.tools."""

TOOL_ALIASES: dict[str, ToolName] = {
    "readfile": "Read",
    "notebookread": "Read",
    "writefile": "Write",
    "editfile": "Edit",
    "multiedit": "Edit",
    "notebookedit": "Edit",
    "globsearch": "Glob",
    "ls": "Glob",
    "grepsearch": "Grep",
    "killshell": "KillBash",
    "task": "Agent",
}
"""Other agents' names, and older ones of Claude Code, without case, hyphens and underscores."""

COVERS: dict[ToolName, tuple[ToolName, ...]] = {
    "Bash": ("Bash", "BashOutput", "KillBash"),
    "Read": ("Read", "Glob", "Grep"),
    "Edit": ("Edit", "Write"),
}
"""Tools that a rule for a tool speaks of, where that is more than the tool itself."""

CLASSES: dict[str, ToolName] = {
    "@exec": "Bash",
    "@write": "Edit",
    "@read": "Read",
    "@net": "WebFetch",
    "@agent": "Agent",
}
"""Names for all tools of a kind: those that a rule for this tool covers."""

_PATH_TOOLS: tuple[ToolName, ...] = ("Read", "Write", "Edit", "Glob", "Grep")
_MCP_SERVER = r"mcp__[a-z0-9-]+(?:_[a-z0-9-]+)*"


def canonical_tool(name: str) -> str | None:
    """The tool's own name, whatever the case, hyphens and underscores; None for no tool that policies speak of."""
    if re.fullmatch(rf"{_MCP_SERVER}__[a-z0-9_.-]+", name, re.IGNORECASE):
        return name.lower()
    plain = re.sub("[-_]", "", name).lower()
    return next((tool for tool in TOOLS if tool.lower() == plain), TOOL_ALIASES.get(plain))


@dataclass(frozen=True, slots=True)
class ParameterPattern:
    """A parameter of a call and what its value must be; `*` is any text."""

    name: str
    value: str

    def fits(self, parameters: Mapping[str, str]) -> bool:
        return fnmatchcase(parameters.get(self.name, "\0"), re.sub(r"([?\[])", r"[\1]", self.value))


Pattern = PathPattern | CommandPattern | DomainPattern | ParameterPattern


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of `allow`, `ask` or `deny`."""

    text: str
    """As written."""
    tool: str
    """The canonical name; of an MCP server's tool it may have a `*`."""
    pattern: Pattern | None = None
    """None: any use of the tool."""
    where: str | None = None
    """file:line."""
    tools: tuple[str, ...] = ()
    """The tools that it speaks of; those of MCP servers as in `tool`."""

    def __str__(self) -> str:
        return self.text

    def speaks_of(self, tool: str) -> bool:
        return tool in self.tools or (tool.startswith("mcp__") and fnmatchcase(tool, self.tool))


def parse_rule(text: str) -> Rule:
    """Raises ValueError saying what is wrong with it."""
    found = re.fullmatch(r"((?i:mcp__)[\w*.-]+|@?[\w-]+)(?:\((.*)\))?", text, re.DOTALL)
    if not found:
        raise ValueError(f"is not a rule: {shown(text)}; write Tool or Tool(pattern), such as Bash(git status:*)")
    name, inner = found[1], found[2]
    if name.lower().startswith("mcp__"):
        return _mcp_rule(text, name.lower(), inner)
    tool = CLASSES.get(name.lower()) if name.startswith("@") else canonical_tool(name)
    known = next((known for known in TOOLS if known == tool), None)
    if known is None:
        raise ValueError(no_such_tool(name))
    return Rule(text, known, _pattern(text, known, inner), tools=COVERS.get(known, (known,)))


def _pattern(text: str, tool: ToolName, inner: str | None) -> Pattern | None:
    """What stands in the parentheses. Raises ValueError."""
    if inner is None or (inner == "*" and tool == "Bash"):
        return None
    if inner == "" or inner != inner.strip():
        raise ValueError(
            f"the pattern of {shown(text)} is empty, or has spaces around it; {tool} alone is any use of it"
        )
    if tool in _PATH_TOOLS:
        return parse_path(inner)
    match tool:
        case "Bash":
            return parse_command(inner)
        case "WebFetch":
            return _domain(inner)
        case "Agent":
            return _parameter(inner)
        case _:
            raise ValueError(f"{tool} takes no pattern; write {tool}")


def _domain(inner: str) -> DomainPattern:
    key, colon, domain = inner.partition(":")
    if key != "domain" or not colon:
        raise ValueError(f"WebFetch takes domain:NAME, such as WebFetch(domain:example.org) (got {shown(inner)})")
    if domain == "*":
        raise ValueError("domain:* is every host there is; WebFetch alone says that")
    return parse_domain(domain)


def _parameter(inner: str) -> ParameterPattern:
    found = re.fullmatch(r"([a-z]\w*):(\S.*)", inner, re.ASCII)
    if not found:
        raise ValueError(f"Agent takes a parameter and its value, such as Agent(model:haiku) (got {shown(inner)})")
    return ParameterPattern(found[1], found[2])


# --- Tools of MCP servers ---


def _mcp_rule(text: str, name: str, inner: str | None) -> Rule:
    """`mcp__server` is every tool of the server, as `mcp__server__*` is."""
    if not re.fullmatch(rf"{_MCP_SERVER}(?:__[a-z0-9_*.-]+)?", name):
        raise ValueError(no_such_tool(name))
    if inner is not None:
        raise ValueError(f"{name} takes no pattern; write {name}")
    tool = name if "__" in name.removeprefix("mcp__") else f"{name}__*"
    return Rule(text, tool, tools=(tool,))


def no_such_tool(name: str) -> str:
    """What to say of a name that is no tool and no class, with what was probably meant."""
    if name.startswith("@"):
        meant = near(name, CLASSES)
        hint = f"did you mean {meant}?" if meant else f"the classes are {', '.join(CLASSES)}"
        return f"there is no class of tools {shown(name)}; {hint}"
    if name.lower().startswith("mcp_"):
        return f"{shown(name)} names no tool of an MCP server; write mcp__SERVER__TOOL, or mcp__SERVER for all of them"
    meant = near(re.sub("[-_]", "", name), (*TOOLS, *TOOL_ALIASES), likeness=0.75)
    hint = f"did you mean {canonical_tool(meant)}?" if meant else f"the tools are {', '.join(TOOLS)}"
    return f"there is no tool {shown(name)}; {hint}"
