"""OpenCode's permissions (https://opencode.ai/docs/permissions): for each tool a word, or words for patterns.

The last pattern that matches decides; here the strictest does. What no pattern matches is allowed there.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from runner.errors import ConfigError
from runner.policy.dialects import commands, paths
from runner.policy.dialects.draft import STRICTNESS, WORDS, Draft, Imported, Item
from runner.policy.dialects.jsonc import parse
from runner.policy.rules import parse_rule
from runner.policy.verdicts import Verdict

Kind = Literal["command", "path", "url", "name"]


class _Key(NamedTuple):
    tool: str
    kind: Kind
    """Of the patterns: what they are compared with."""


KEYS = {
    "bash": _Key("Bash", "command"),
    "read": _Key("Read", "path"),
    "edit": _Key("Edit", "path"),
    "glob": _Key("Glob", "name"),
    "list": _Key("Glob", "name"),
    "grep": _Key("Grep", "name"),
    "webfetch": _Key("WebFetch", "url"),
    "task": _Key("Agent", "name"),
}
"""Its tools that jobs may have."""
NOT_HERE = ("skill", "lsp", "todowrite", "todoread", "websearch", "codesearch", "question")
SWITCHES = {"edit": ("edit", "write", "patch", "multiedit")}
"""Older names under `tools` of what is one permission."""
HIDDEN = ("*.env", "*.env.*")
"""What its default denies reading of."""


_PAGES_OF_A_HOST = re.compile(r"https://((?:\*\.)?[^/*?]+)/\*+")


class _Word(NamedTuple):
    """One word for one pattern of a tool."""

    item: Item
    pattern: str
    verdict: Verdict


class _Tool(NamedTuple):
    """What is said of one of its tools."""

    key: str
    default: Verdict
    """For what no pattern matches."""
    words: tuple[_Word, ...] = ()
    """Behind the last that is for everything; the last that matches decides."""
    decided: bool = True
    """Something was said that is for everything."""


def convert(text: str, source: str) -> Imported:
    """Raises ConfigError."""
    document = parse(text, source)
    if not isinstance(document.tree, dict):
        raise ConfigError(f"{source}:1:1: must be a mapping with permission")
    draft = Draft(document)
    tools = [_read(draft, key) for key in KEYS]
    outside = _outside(draft)
    draft.check()
    _set_mode(draft, tools, outside)
    for tool in tools:
        _take(draft, tool, outside)
    _leave_out_the_rest(draft)
    return draft.finished()


# --- reading


def _said_of(draft: Draft, key: str) -> list[_Word]:
    """All words for a tool, in their order. What a name is may be said with a `*` in it."""
    found = draft.item("permission")
    if found is not None and not isinstance(found.value, dict):
        return [_Word(found, "*", _verdict(found))] if draft.is_word(found, WORDS) else []
    words = []
    for item in draft.items("permission"):
        if not _matches(str(item.path[-1]), key):
            continue
        inner = draft.items(*item.path) if isinstance(item.value, dict) else [item]
        words += [
            _Word(each, "*" if each is item else str(each.path[-1]), _verdict(each))
            for each in inner
            if draft.is_word(each, WORDS)
        ]
    return words


def _matches(pattern: str, text: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _verdict(item: Item) -> Verdict:
    return next((word for word in WORDS if word == item.value), "deny")


def _read(draft: Draft, key: str) -> _Tool:
    for name in SWITCHES.get(key, (key,)):
        if (switch := draft.item("tools", name)) and switch.value is False:
            draft.note_once("exactly", switch)
            return _Tool(key, "deny")
    words = _said_of(draft, key)
    everything = max((at for at, word in enumerate(words) if not word.pattern.strip("*")), default=-1)
    for word in words[:everything]:
        if len(word.item.path) > 1 and word.item.path[1] == key:
            draft.note_once("exactly", word.item, "a later * decides")
    if everything < 0:
        return _Tool(key, "allow", tuple(words), decided=False)
    draft.note_once("exactly", words[everything].item)
    return _Tool(key, words[everything].verdict, tuple(words[everything + 1 :]))


def _outside(draft: Draft) -> Verdict:
    """The word for paths outside the repository: the strictest, where there are several."""
    words = _said_of(draft, "external_directory")
    everything = max((at for at, word in enumerate(words) if not word.pattern.strip("*")), default=-1)
    default: Verdict = words[everything].verdict if everything >= 0 else "ask"
    more = words[everything + 1 :]
    for word in more:
        draft.note_once("stricter", word.item, "the strictest word for a folder outside counts for all of them")
    if everything >= 0:
        draft.note_once("exactly", words[everything].item)
    return max((default, *(word.verdict for word in more)), key=STRICTNESS.__getitem__)


# --- writing


def _set_mode(draft: Draft, tools: list[_Tool], outside: Verdict) -> None:
    """Ask about what no rule names; where that would be too much for one tool, allow nothing that no rule names."""
    closed = any(tool.default == "deny" and any(word.verdict != "deny" for word in tool.words) for tool in tools)
    draft.mode = "whitelist" if closed or outside == "deny" else "interactive"


def _take(draft: Draft, tool: _Tool, outside: Verdict) -> None:
    name, kind = KEYS[tool.key]
    words = tool.words
    if kind == "name" and words:
        for word in words:
            draft.note_once(
                "stricter", word.item, f"patterns of {tool.key} cannot be said here; the strictest word counts"
            )
        strictest = max((tool.default, *(word.verdict for word in words)), key=STRICTNESS.__getitem__)
        tool, words = _Tool(tool.key, strictest), ()
    _take_default(draft, tool, name, outside)
    for at, word in enumerate(words):
        later = [other for other in words[at + 1 :] if STRICTNESS[other.verdict] < STRICTNESS[word.verdict]]
        _take_word(draft, tool, word, outside, beaten=any(_meet(word, other) for other in later))
    if tool.key == "read" and not tool.decided:
        for pattern in HIDDEN:
            draft.add("deny", f"Read(//**/{pattern})", "OpenCode's own default")


def _take_default(draft: Draft, tool: _Tool, name: str, outside: Verdict) -> None:
    match tool.default:
        case "allow":
            _allow_all(draft, tool, name, outside)
        case "deny" if not tool.words or draft.mode == "interactive":
            draft.add("deny", name, f"{tool.key}: deny")
        case "ask" if not tool.words:
            # Also where the mode asks: a rule that allows Read allows searching as well.
            draft.add("ask", _asking(name, name, outside), f"{tool.key}: ask")
        case "ask" if draft.mode == "whitelist":
            rest = Item(("permission", tool.key), "ask about the rest")
            draft.note("stricter", rest, "the rest is denied: the mode, for all tools, is a whitelist")
        case _:
            pass  # as the mode has it


def _allow_all(draft: Draft, tool: _Tool, name: str, outside: Verdict) -> None:
    comment = f"{tool.key}: allow"
    if KEYS[tool.key].kind != "path" and name not in ("Glob", "Grep"):
        draft.add("allow", name, comment)
        return
    draft.add("allow", f"{name}(**)", comment)
    if outside == "allow":
        draft.add("allow", f"{name}(//**)", "external_directory: allow")


def _take_word(draft: Draft, tool: _Tool, word: _Word, outside: Verdict, *, beaten: bool) -> None:
    name, kind = KEYS[tool.key]
    if word.verdict == "allow":
        _take_allowed(draft, name, kind, word, outside)
        return
    reasons = ["a later pattern allows more; here the strictest counts"] if beaten else []
    verdict, rule = word.verdict, _wide(name, kind, word.pattern)
    if not _same(kind, word.pattern):
        reasons.append(f"is {rule}, so that all is caught that a * there may stand for")
        # To ask about more than was asked about would be to ask about what was denied.
        verdict = "deny" if tool.default == "deny" else verdict
    if verdict == "ask" and outside == "deny" and kind == "path" and paths.text_glob(word.pattern).anchor != "/":
        verdict = "deny"
    if verdict == "ask":
        rule = _asking(name, rule, outside)
    elif word.verdict == "ask":
        reasons.append("it is denied, so that nothing is asked about that was denied")
    draft.take(verdict, word.item, [rule], "; ".join(reasons), comment=f"for {word.pattern}")


def _take_allowed(draft: Draft, name: str, kind: Kind, word: _Word, outside: Verdict) -> None:
    try:
        rule = _narrow(name, kind, word.pattern)
        parse_rule(rule)
    except ValueError as error:
        draft.note("left out", word.item, str(error))
        return
    if kind == "path" and outside != "allow" and paths.text_glob(word.pattern).anchor != "/":
        draft.note("left out", word.item, "lies outside, which external_directory does not allow")
        return
    why = "" if _same(kind, word.pattern) else "a * ends with its word here"
    draft.take("allow", word.item, [rule], why, comment=f"for {word.pattern}")


def _narrow(name: str, kind: Kind, pattern: str) -> str:
    """Raises ValueError."""
    match kind:
        case "command":
            return commands.narrow(pattern)
        case "path":
            return f"{name}({paths.narrow(pattern)})"
        case "url":
            found = _PAGES_OF_A_HOST.fullmatch(pattern)
            if not found:
                raise ValueError("only all pages of a host can be allowed, as https://example.org/*")
            return f"{name}(domain:{found[1]}:443)" if ":" not in found[1] else f"{name}(domain:{found[1]})"
        case "name":
            raise ValueError("patterns of this tool cannot be said here")


def _wide(name: str, kind: Kind, pattern: str) -> str:
    match kind:
        case "command":
            return commands.wide(pattern)
        case "path":
            found = paths.wide(pattern)
            return f"{name}({found})" if found else name
        case "url":
            host = re.match(r"(?:\*|https?)://([a-z0-9.-]+)(?=[/:]|\Z)", pattern)
            return _tried(f"{name}(domain:{host[1]})", name) if host else name
        case "name":
            return name


def _asking(name: str, rule: str, outside: Verdict) -> str:
    """The rule without what lies outside the repository, where that is denied by the mode."""
    if outside != "deny" or name not in ("Read", "Edit", "Glob", "Grep"):
        return rule
    return f"{name}(**)" if rule == name else rule.replace("(//**/", "(/**/")


def _tried(rule: str, otherwise: str) -> str:
    try:
        parse_rule(rule)
    except ValueError:
        return otherwise
    return rule


def _same(kind: Kind, pattern: str) -> bool:
    """Whether a rule says just what the pattern does."""
    if kind == "command":
        return commands.is_exact(pattern)
    if kind == "url":
        return _PAGES_OF_A_HOST.fullmatch(pattern) is not None
    rest = pattern.lstrip("*")
    return not re.search(r"[*?](?!\Z)", rest) and (rest == pattern or not rest.startswith("/"))


def _meet(word: _Word, other: _Word) -> bool:
    """Whether one pattern may match what the other does, as far as their beginnings tell."""
    first, second = (re.split(r"[*?]", each.pattern)[0] for each in (word, other))
    return first.startswith(second) or second.startswith(first)


def _leave_out_the_rest(draft: Draft) -> None:
    found = draft.item("permission")
    for item in draft.items("permission") if found and isinstance(found.value, dict) else ():
        key = str(item.path[-1])
        if key in NOT_HERE:
            draft.note("left out", item, f"jobs have no tool {key}, so that it cannot be used at all")
        elif key == "doom_loop":
            draft.note("left out", item, "an agent that repeats a failing call is told so")
        elif not any(_matches(key, known) for known in (*KEYS, "external_directory")):
            draft.note("left out", item, "no tool of a job has that name; those of MCP servers are mcp__SERVER__TOOL")
    for item in draft.items():
        if item.path[-1] == "tools":
            _switches(draft)
        elif item.path[-1] != "permission":
            draft.note("left out", item, _WHY.get(str(item.path[-1]), "says nothing that a policy could"))


def _switches(draft: Draft) -> None:
    for item in draft.items("tools"):
        if item.value is True or item.path[-1] not in KEYS:
            draft.note("left out", item, "a tool that is on is allowed by permission alone")


_WHY = {
    "agent": "permissions of single agents are not known here",
    "mode": "permissions of single modes are not known here",
    "$schema": "names the format",
}
