"""Claude Code's settings.json: permissions and sandbox (https://code.claude.com/docs/en/settings).

Its rules are ours in syntax. They differ in that its `*` in a command is any text, that it knows tools that jobs do not
have, and that it asks, or does not ask, by the mode.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from runner.errors import ConfigError
from runner.policy.dialects import commands
from runner.policy.dialects.draft import Draft, Imported, Item
from runner.policy.dialects.jsonc import parse
from runner.policy.rules import parse_rule
from runner.policy.verdicts import Verdict

SECTIONS = ("permissions", "sandbox")
MODES = ("default", "manual", "acceptEdits", "auto", "dontAsk", "plan", "bypassPermissions")
_PATH_TOOLS = {
    "Read": "Read", "NotebookRead": "Read", "Edit": "Edit", "MultiEdit": "Edit", "NotebookEdit": "Edit",
    "Write": "Write", "Glob": "Glob", "LS": "Glob", "Grep": "Grep",
}  # fmt: skip
_OTHER_TOOLS = {
    "Bash": "Bash", "BashOutput": "BashOutput", "KillShell": "KillBash", "KillBash": "KillBash",
    "WebFetch": "WebFetch", "Task": "Agent", "Agent": "Agent",
}  # fmt: skip
TOOLS = _PATH_TOOLS | _OTHER_TOOLS
"""Its names of the tools that jobs may have, exactly as it writes them, and ours."""
ASKED_FIRST = (
    ".git", ".claude", ".vscode", ".idea", ".husky", ".gitconfig", ".gitmodules", ".mcp.json", ".bashrc",
    ".bash_profile", ".zshrc", ".zprofile", ".profile", ".ripgreprc",
)  # fmt: skip
"""What `acceptEdits` does not accept by itself."""
_PARAMETER = re.compile(r"[a-z]\w*:\S.*", re.ASCII)


class _Stance(NamedTuple):
    """How it decides on what no rule names."""

    mode: str
    asks: bool
    """A rule under `ask` asks; else it denies."""
    held_reads: bool
    """Nothing outside the working directories is read, whatever the rules."""
    held_writes: bool


def convert(text: str, source: str, *, in_repository: bool) -> Imported:
    """`in_repository`: paths with one slash, which are relative to the settings file, start at the repository.

    Raises ConfigError.
    """
    document = parse(text, source)
    if not isinstance(document.tree, dict):
        raise ConfigError(f"{source}:1:1: must be a mapping with {' or '.join(SECTIONS)}")
    draft = Draft(document)
    stance = _stance(draft)
    rules = _Rules(draft, stance, in_repository=in_repository)
    for verdict in ("deny", "ask", "allow"):
        for item in draft.texts("permissions", verdict):
            rules.take(verdict, item)
    _working_directories(draft, stance)
    _sandbox(draft, rules)
    _leave_out_the_rest(draft)
    return draft.finished()


# --- the mode


def _stance(draft: Draft) -> _Stance:
    item = draft.word(MODES, "permissions", "defaultMode")
    mode = str(item.value) if item else "default"
    if mode == "bypassPermissions" and draft.word(("disable",), "permissions", "disableBypassPermissionsMode"):
        mode = "default"
    stance = _Stance(
        mode=mode,
        asks=mode not in ("dontAsk", "plan") and not draft.flag("permissions", "denyInsteadOfPrompting"),
        held_reads=draft.flag("permissions", "blockReadsOutsideWorkingDirectories"),
        held_writes=draft.flag("permissions", "blockWritesOutsideWorkingDirectories"),
    )
    held = stance.held_reads or stance.held_writes
    if mode == "bypassPermissions":
        draft.mode = "whitelist" if held else "blacklist"
    else:
        draft.mode = "interactive" if stance.asks and not held else "whitelist"
    _note_mode(draft, item, stance)
    return stance


def _note_mode(draft: Draft, item: Item | None, stance: _Stance) -> None:
    reasons = {
        "auto": "a person is asked about what its classifier would decide",
        "plan": "nothing may be changed, and no commands are run",
    }
    if item and stance.mode == "bypassPermissions":
        draft.note("exactly", item, "WARNING: everything is allowed that is not denied")
    elif item:
        reason = reasons.get(stance.mode, "")
        draft.note("stricter" if reason else "exactly", item, reason)
    for key in ("disableBypassPermissionsMode", "denyInsteadOfPrompting"):
        if found := draft.item("permissions", key):
            draft.note("exactly", found)
    for key in ("blockReadsOutsideWorkingDirectories", "blockWritesOutsideWorkingDirectories"):
        if found := draft.item("permissions", key):
            why = "the mode is a whitelist, so that nothing else is asked about" if found.value and stance.asks else ""
            draft.note("stricter" if why else "exactly", found, why)


# --- rules


class _Rules:
    """Takes over single rules."""

    def __init__(self, draft: Draft, stance: _Stance, *, in_repository: bool) -> None:
        self._draft = draft
        self._stance = stance
        self._in_repository = in_repository

    def take(self, verdict: Verdict, item: Item) -> None:
        found = re.fullmatch(r"([\w*-]+)(?:\((.*)\))?", item.value, re.DOTALL)
        if not found:
            self._draft.complain(item, "is not a rule; write Tool or Tool(specifier)")
            return
        if verdict == "ask" and not self._stance.asks:
            verdict = "deny"  # nobody is there to be asked
        name, spec = found[1], found[2]
        if name.startswith("mcp__"):
            self._mcp(verdict, item)
        elif name not in TOOLS:
            self._draft.note("left out", item, f"jobs have no tool {name}, so that it cannot be used at all")
        elif verdict == "allow" and self._stance.mode == "plan" and TOOLS[name] in ("Bash", "Edit", "Write", "Agent"):
            self._draft.note("left out", item, "in plan mode nothing is changed or run")
        else:
            self._tool(verdict, item, TOOLS[name], spec)

    def _tool(self, verdict: Verdict, item: Item, tool: str, spec: str | None) -> None:
        if tool in _PATH_TOOLS.values():
            self._path(verdict, item, tool, spec)
        elif spec in (None, "*") or (tool == "WebFetch" and spec == "domain:*"):
            self._draft.take(verdict, item, [tool])
        elif tool == "Bash":
            self._command(verdict, item, spec)
        elif tool == "Agent" and not _PARAMETER.fullmatch(spec):
            self._impossible(verdict, item, tool, "agents are told apart by parameters here, such as model:haiku")
        else:
            self._same(verdict, item, tool, spec)

    def _same(self, verdict: Verdict, item: Item, tool: str, spec: str) -> None:
        rule = f"{tool}({spec})"
        try:
            parse_rule(rule)
        except ValueError as error:
            self._impossible(verdict, item, tool, str(error))
        else:
            self._draft.take(verdict, item, [rule])

    def _impossible(self, verdict: Verdict, item: Item, tool: str, why: str) -> None:
        """What no rule of ours says: it is not allowed, and where it was denied, the whole tool is."""
        if verdict == "allow":
            self._draft.note("left out", item, why)
        else:
            self._draft.take(verdict, item, [tool], f"stands for all of {tool}, since {why}")

    def _mcp(self, verdict: Verdict, item: Item) -> None:
        rule = item.value.partition("(")[0]
        try:
            parse_rule(rule)
        except ValueError as error:
            self._draft.note("left out", item, str(error))
            return
        narrowed = "(" in item.value
        if narrowed and verdict == "allow":
            self._draft.note("left out", item, "tools of MCP servers take no pattern here")
        else:
            self._draft.take(verdict, item, [rule], "stands for any use of it" if narrowed else "")

    def _command(self, verdict: Verdict, item: Item, spec: str) -> None:
        if verdict != "allow":
            exact = commands.is_exact(spec)
            rule = commands.wide(spec)
            why = "" if exact else f"is {rule}, so that all is caught that a * there may stand for"
            self._draft.take(verdict, item, [rule], why)
            return
        try:
            rule = commands.narrow(spec)
        except ValueError as error:
            self._draft.note("left out", item, str(error))
            return
        self._draft.take(
            verdict, item, [rule], "" if commands.is_exact(spec) else "a * within a word ends with it here"
        )

    def _path(self, verdict: Verdict, item: Item, tool: str, spec: str | None) -> None:
        held = self._stance.held_reads if tool in ("Read", "Glob", "Grep") else self._stance.held_writes
        pattern = "//**" if spec is None else re.sub(r"(?<!\\)([{}])", r"\\\1", spec)
        rule = tool if spec is None else f"{tool}({pattern})"
        try:
            parse_rule(rule)
        except ValueError as error:
            self._impossible(verdict, item, tool, str(error))
            return
        relative = pattern.startswith("/") and not pattern.startswith("//")
        if verdict == "deny" or (verdict == "ask" and relative):
            self._draft.take(verdict, item, [rule])
        elif relative and not self._in_repository:
            self._draft.note("left out", item, "is relative to the settings file, which is not one of the repository")
        elif not held or not pattern.startswith(("//", "~/")):
            self._draft.take(verdict, item, [rule])
        elif verdict == "ask":
            self._draft.take("deny", item, [rule], "nothing outside the working directories is reached")
        elif spec is None:
            self._draft.take(verdict, item, [f"{tool}(**)"], "nothing outside the working directories is reached")
        else:
            self._draft.note("left out", item, "nothing outside the working directories is reached")


# --- working directories and sandbox


def _working_directories(draft: Draft, stance: _Stance) -> None:
    """Where reading needs no rule, nor writing in the mode acceptEdits."""
    draft.add("allow", "Read(**)", "in its working directory Claude Code reads without a rule")
    accepts_edits = stance.mode == "acceptEdits"
    if accepts_edits:
        draft.add("allow", "Edit(**)", "acceptEdits")
        for name in ASKED_FIRST:
            draft.add("ask" if stance.asks else "deny", f"Edit({name})", "what acceptEdits does not accept by itself")
    for item in draft.texts("permissions", "additionalDirectories"):
        folder = _folder(item.value)
        if folder is None:
            draft.note("left out", item, "is no folder of a job: only what is absolute or in ~/ may be")
            continue
        edits = [f"Edit({folder}/**)"] if accepts_edits else []
        draft.take("allow", item, [f"Read({folder}/**)", *edits])


def _folder(path: str) -> str | None:
    """A folder outside the repository as the beginning of a pattern."""
    normal = posixpath.normpath(path)
    if normal.startswith("~/") and ".." not in normal:
        folder = normal
    elif normal.startswith("/") and normal.strip("/"):
        folder = f"//{normal.lstrip('/')}"
    else:
        return None
    folder = re.sub(r"([\\*?\[{}])", r"\\\1", folder)
    try:
        parse_rule(f"Read({folder}/**)")
    except ValueError:
        return None
    return folder


def _sandbox(draft: Draft, rules: _Rules) -> None:
    _network(draft)
    for key, tool in (("denyRead", "Read"), ("denyWrite", "Edit")):
        for item in draft.texts("sandbox", "filesystem", key):
            _denied_path(draft, item, tool)
    for item in draft.texts("sandbox", "filesystem", "allowWrite"):
        draft.note("left out", item, "lets commands write there, and not the tools; a rule Edit(…) would allow both")


def _denied_path(draft: Draft, item: Item, tool: str) -> None:
    """A path of the sandbox with one slash is absolute to some versions, and relative to the settings to others."""
    bare = item.value.removesuffix("/")
    readings = [bare, f"/{bare}"] if re.match(r"/[^/]", bare) else [bare]
    found = [f"{tool}({pattern})" for pattern in (re.sub(r"(?<!\\)([{}])", r"\\\1", each) for each in readings)]
    try:
        for rule in found:
            parse_rule(rule)
    except ValueError as error:
        draft.take("deny", item, [tool], f"stands for all of {tool}, since {error}")
        return
    draft.take("deny", item, found, "holds for the tools as well as for commands")


def _network(draft: Draft) -> None:
    denied = list(draft.texts("sandbox", "network", "deniedDomains"))
    hosts = [item.value.lower() for item in denied]
    for item in draft.texts("sandbox", "network", "allowedDomains"):
        if hit := next((host for host in hosts if _overlap(item.value.lower(), host)), None):
            draft.note("left out", item, f"{hit} is denied, and here what is listed can be reached")
        else:
            draft.reach(item, item.value)
    for item in denied:
        draft.note("exactly", item, "nothing can be reached but what is listed")


def _overlap(allowed: str, denied: str) -> bool:
    """Whether a host that is allowed may be denied."""
    names = [re.sub(r"\.?(:\d+)?$", "", host) for host in (allowed, denied)]
    short, long = sorted((name.removeprefix("*.") for name in names), key=len)
    return "*" in (short, long) or short == long or (long.endswith(f".{short}") and any("*" in name for name in names))


def _leave_out_the_rest(draft: Draft) -> None:
    known = {
        "permissions": (
            "allow", "ask", "deny", "defaultMode", "additionalDirectories", "disableBypassPermissionsMode",
            "denyInsteadOfPrompting", "blockReadsOutsideWorkingDirectories", "blockWritesOutsideWorkingDirectories",
        ),
        "sandbox": ("network", "filesystem"),
    }  # fmt: skip
    for item in _unread(draft, known):
        draft.note("left out", item, _WHY.get(str(item.path[-1]), "says nothing that a policy could"))


def _unread(draft: Draft, known: dict[str, tuple[str, ...]]) -> Iterator[Item]:
    for section, keys in known.items():
        yield from (item for item in draft.items(section) if item.path[-1] not in keys)
    inner = {"network": ("allowedDomains", "deniedDomains"), "filesystem": ("allowWrite", "denyWrite", "denyRead")}
    for section, keys in inner.items():
        yield from (item for item in draft.items("sandbox", section) if item.path[-1] not in keys)
    yield from (item for item in draft.items() if item.path[-1] not in known)


_WHY = {
    "hooks": "hooks are not run: what they would have blocked is decided by the rules alone",
    "autoAllowBashIfSandboxed": "commands are allowed by rules; Bash under allow would allow all of them",
    "excludedCommands": "no command leaves the container",
    "allowUnsandboxedCommands": "no command leaves the container",
    "enabled": "every job runs in a container",
    "allowUnixSockets": "no socket of the host is in the container",
    "allowLocalBinding": "a container has a loopback of its own",
    "env": "variables of the host are named under secrets",
    "apiKeyHelper": "the runner alone holds the key",
    "credentials": "nothing of the host is in the container; variables are named under secrets",
}
