"""One rule: `Tool` or `Tool(pattern)`, as in Claude Code's settings (https://docs.anthropic.com/en/docs/claude-code/iam).

Read(**)               files, in .gitignore's patterns; covers Read, Glob and Grep
Edit(src/**)           covers Edit and Write
Bash(git status)       this command
Bash(git diff:*)       the command, and anything after it (`Bash(git diff *)` is the same)
Bash(npm run *:ci)     `*` within a word; as a word between others, one or more words
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from runner.document.words import near, shown
from runner.policy.options import risky_option
from runner.policy.paths import PathPattern, parse_path
from runner.policy.sequence import Test, matches
from runner.policy.shell import SimpleCommand, Unclear, Word, simple_commands

ToolName = Literal["Bash", "BashOutput", "KillBash", "Read", "Write", "Edit", "Glob", "Grep"]
TOOLS: tuple[ToolName, ...] = get_args(ToolName)

TOOL_ALIASES: dict[str, ToolName] = {
    "readfile": "Read",
    "writefile": "Write",
    "editfile": "Edit",
    "globsearch": "Glob",
    "grepsearch": "Grep",
}
"""Other agents' names, without case, hyphens and underscores."""

COVERS: dict[ToolName, tuple[ToolName, ...]] = {
    "Bash": ("Bash", "BashOutput", "KillBash"),
    "Read": ("Read", "Glob", "Grep"),
    "Edit": ("Edit", "Write"),
}
"""Tools that a rule for a tool speaks of, where that is more than the tool itself."""

_PATH_TOOLS: tuple[ToolName, ...] = ("Read", "Write", "Edit", "Glob", "Grep")


def canonical_tool(name: str) -> ToolName | None:
    """The tool's own name, whatever the case, hyphens and underscores; None for no tool of ours."""
    plain = re.sub("[-_]", "", name).lower()
    return next((tool for tool in TOOLS if tool.lower() == plain), TOOL_ALIASES.get(plain))


@dataclass(frozen=True, slots=True)
class CommandPattern:
    """Words of one command; `*` in a word is any text, `*` as a word one or more words, at the end any number."""

    words: tuple[str, ...]

    def allows(self, command: SimpleCommand) -> bool:
        """Whether the command certainly matches."""
        return not command.files and matches(_tests(self.words, _certainly), command.words)

    def catches(self, words: Sequence[Word]) -> bool:
        """Whether the words may come to match, given what the shell puts for variables and globs."""
        if self.words[0] != "*" and not _possibly(self.words[0], words[0]):
            return False
        tests = _tests(self.words, _possibly)
        unsure = next((at for at, word in enumerate(words) if word.kind != "literal"), None)
        if unsure is None:
            return matches(tests, words)
        # What the shell puts there may be no word or several: what stands behind it says nothing any more.
        ends = (end for end in range(len(tests) + 1) if matches(tests[:end], words[:unsure]))
        return any(end == len(tests) or (test := tests[end]) is None or test(words[unsure]) for end in ends)

    def risky_option(self, command: SimpleCommand) -> str | None:
        """A word of the command that this rule must name itself to allow it."""
        named = frozenset(word for word in self.words if "*" not in word)
        return risky_option(command.words, named) if len(named) < len(self.words) else None


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of `allow` or `deny`."""

    text: str
    """As written."""
    tool: ToolName
    pattern: PathPattern | CommandPattern | None = None
    """None: any use of the tool."""
    where: str | None = None
    """file:line."""

    def __str__(self) -> str:
        return self.text

    @property
    def tools(self) -> tuple[ToolName, ...]:
        return COVERS.get(self.tool, (self.tool,))


def parse_rule(text: str) -> Rule:
    """Raises ValueError saying what is wrong with it."""
    found = re.fullmatch(r"([\w-]+)(?:\((.*)\))?", text, re.DOTALL)
    if not found:
        raise ValueError(f"is not a rule: {shown(text)}; write Tool or Tool(pattern), such as Bash(git status:*)")
    tool = canonical_tool(found[1])
    if tool is None:
        raise ValueError(f"there is no tool {shown(found[1])}; {_tool_hint(found[1])}")
    inner = found[2]
    if inner is None or (inner == "*" and tool == "Bash"):
        return Rule(text, tool)
    if inner == "" or inner != inner.strip():
        raise ValueError(
            f"the pattern of {shown(text)} is empty, or has spaces around it; {tool} alone is any use of it"
        )
    if tool in _PATH_TOOLS:
        return Rule(text, tool, parse_path(inner))
    if tool != "Bash":
        raise ValueError(f"{tool} takes no pattern; write {tool}")
    return Rule(text, tool, parse_command(inner))


def _tool_hint(name: str) -> str:
    meant = near(re.sub("[-_]", "", name), (*TOOLS, *TOOL_ALIASES))
    return f"did you mean {canonical_tool(meant)}?" if meant else f"the tools are {', '.join(TOOLS)}"


def parse_command(text: str) -> CommandPattern:
    """Raises ValueError."""
    legacy = text.endswith(":*")
    commands = simple_commands(text[:-2] if legacy else text)
    if isinstance(commands, Unclear):
        raise ValueError(f"the command in Bash({text}) has {commands.reason}; a rule is about one plain command")
    if len(commands) != 1 or commands[0].files or not commands[0].words:
        raise ValueError(f"Bash({text}) is not one plain command; write one rule for each, without redirections")
    if unknown := next((word.text for word in commands[0].words if word.kind == "unknown"), None):
        raise ValueError(f"{shown(unknown)} in Bash({text}) would be replaced by the shell; put it in single quotes")
    words = tuple(word.text for word in commands[0].words)
    return CommandPattern((*words, "*") if legacy else words)


def _tests(words: tuple[str, ...], fits: Callable[[str, Word], bool]) -> list[Test[Word]]:
    tests: list[Test[Word]] = []
    for word in words:
        tests += [_any_word, None] if word == "*" else [partial(fits, word)]
    return [*tests[:-2], None] if words[-1] == "*" else tests


def _any_word(word: Word) -> bool:
    return True


def _certainly(pattern: str, word: Word) -> bool:
    if "*" not in pattern:
        return word.kind == "literal" and word.text == pattern
    return word.kind != "unknown" and _star_match(pattern, word.text)


def _possibly(pattern: str, word: Word) -> bool:
    if word.kind == "literal":
        return _star_match(pattern, word.text)
    start = pattern.split("*", 1)[0]
    return start.startswith(word.prefix) or word.prefix.startswith(start)


def _star_match(pattern: str, text: str) -> bool:
    return re.fullmatch(fnmatch.translate(re.sub(r"([?\[])", r"[\1]", pattern)), text) is not None
