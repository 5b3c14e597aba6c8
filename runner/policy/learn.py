"""A whitelist out of what jobs did: as few rules as allow all of it again, and no broader than they need be. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple, Self

from runner.policy.allowing import Missing, allowing
from runner.policy.command_pattern import CommandPattern
from runner.policy.decide import decide
from runner.policy.dialects.commands import words_rule
from runner.policy.domains import parse_domain
from runner.policy.egress import Phase, needed
from runner.policy.history import History, Past, PastConnection
from runner.policy.paths import REPO, normal, plain_path
from runner.policy.risks import risk
from runner.policy.rules import Rule, parse_rule
from runner.policy.schema import Policy
from runner.policy.shell import Redirection, SimpleCommand, Unclear, commands_of
from runner.policy.verdicts import Call
from runner.policy.wrappers import seen_through
from runner.policy.writing import Written

SEVERAL = 3
"""Files of one folder that make a rule for the folder; commands of a risky program that are named one by one."""
_TOO_HIGH = ("", "/workspace", "/workspace/home")
"""Folders that no number of files makes a rule for; "" is the root."""
_DEEPEST = 5


class _Did(NamedTuple):
    """What was done; whatever every policy decides alike is one."""

    tool: str
    subject: str
    cwd: str

    @classmethod
    def of(cls, call: Call) -> Self:
        return cls(call.tool, call.subject, call.cwd if call.tool == "Bash" else REPO)

    @property
    def call(self) -> Call:
        return Call(tool=self.tool, subject=self.subject, cwd=self.cwd)


@dataclass(slots=True)
class _Use:
    """How often it was done."""

    times: int = 0
    failed: int = 0
    denied: int = 0
    jobs: set[str] = field(default_factory=set)

    def add(self, past: Past) -> None:
        self.times += 1
        self.failed += past.failed
        self.denied += not past.allowed
        self.jobs.add(past.job)

    def include(self, other: _Use) -> None:
        self.times += other.times
        self.failed += other.failed
        self.denied += other.denied
        self.jobs |= other.jobs

    def __str__(self) -> str:
        calls = f"{self.times} call{'s' if self.times != 1 else ''}"
        jobs = f" in {len(self.jobs)} jobs" if len(self.jobs) > 1 else ""
        more = [f"{count} {what}" for count, what in ((self.failed, "failed"), (self.denied, "denied then")) if count]
        return ", ".join((calls + jobs, *more))


class Learned(NamedTuple):
    policy: Written
    """Allows every call again but those in `missing`; each of its rules is needed for one."""
    missing: tuple[Call, ...]
    """Calls that no rule can be written for, short of one for the whole tool."""
    calls: int
    """That it was learned from."""


def learn(histories: Iterable[History], *, include_denied: bool = False) -> Learned:
    """From all calls that were allowed, whether they succeeded or not; the denied ones too if asked for."""
    uses: dict[_Did, _Use] = {}
    connections: list[PastConnection] = []
    for calls, tried in histories:
        for past in calls:
            if past.allowed or include_denied:
                for call in past.calls:
                    uses.setdefault(_Did.of(call), _Use()).add(past)
        connections += (one for one in tried if one.allowed or include_denied)
    rules, missing = _sufficient([done.call for done in uses])
    needed_by = _minimal(rules, [done.call for done in uses])
    counted = {rule: _sum(use for done, use in uses.items() if done in calls) for rule, calls in needed_by.items()}
    return Learned(
        policy=Written(
            mode="whitelist",
            allow={rule: _comment(rule, use) for rule, use in sorted(counted.items(), key=_order)},
            egress=_egress(connections),
        ),
        missing=tuple(missing),
        calls=sum(use.times for use in uses.values()),
    )


def _sum(uses: Iterable[_Use]) -> _Use:
    total = _Use()
    for use in uses:
        total.include(use)
    return total


def _comment(rule: str, use: _Use) -> str:
    found = risk(_parsed(rule))
    return f"{use}; risky: {found}" if found else str(use)


def _order(item: tuple[str, _Use]) -> tuple[int, str]:
    rule = _parsed(item[0])
    kinds = ("Read", "Glob", "Grep", "Edit", "Write", "Bash", "BashOutput", "KillBash")
    return kinds.index(rule.tool) if rule.tool in kinds else len(kinds), item[0]


def _egress(connections: Iterable[PastConnection]) -> dict[Phase, dict[str, str]]:
    found: dict[Phase, dict[str, _Use]] = {}
    for one in connections:
        entry = needed(one.host, one.port)
        try:
            parse_domain(entry, addresses=True)
        except ValueError:
            continue  # whoever asked for that asked for no host
        use = found.setdefault(one.phase, {}).setdefault(entry, _Use())
        use.times += 1
        use.jobs.add(one.job)
        use.denied += not one.allowed
    return {
        phase: {entry: f"{use}; risky: network".replace("call", "connection", 1) for entry, use in sorted(uses.items())}
        for phase, uses in found.items()
    }


# --- rules


def _sufficient(calls: Sequence[Call]) -> tuple[list[str], list[Call]]:
    """Rules that allow the calls, and those calls that no rule does."""
    rules = dict.fromkeys((*_path_rules(calls), *_command_rules(calls), *_other_rules(calls)))
    missing = []
    policy = _policy(rules)
    for call in calls:
        for more in (_exact_rules, _suggested_rules):
            if decide(policy, call).allowed:
                break
            rules |= dict.fromkeys(more(policy, call))
            policy = _policy(rules)
        if not decide(policy, call).allowed:
            missing.append(call)
    return list(rules), missing


def _policy(rules: Iterable[str]) -> Policy:
    """Each rule is a place of its own, so that a decision says which ones it is by."""
    allow = (replace(_parsed(rule), where=f"{number}") for number, rule in enumerate(rules))
    return Policy(version=1, mode="whitelist", allow=tuple(allow))


_parsed = lru_cache(maxsize=10_000)(parse_rule)


def _minimal(rules: Sequence[str], calls: Sequence[Call]) -> dict[str, set[_Did]]:
    """As few of the rules as allow the same, and what each of them allows; the broad ones go first."""
    kept = list(rules)
    users = _users(kept, calls)
    for rule in sorted(rules, key=_breadth, reverse=True):
        without = [other for other in kept if other != rule]
        policy = _policy(without)
        if all(decide(policy, done.call).allowed for done in users.get(rule, ())):
            for other, done in _users(without, [done.call for done in users.pop(rule, ())]).items():
                users.setdefault(other, set()).update(done)
            kept = without
    return users


def _users(rules: Sequence[str], calls: Iterable[Call]) -> dict[str, set[_Did]]:
    policy = _policy(rules)
    found: dict[str, set[_Did]] = {}
    for call in calls:
        decision = decide(policy, call)
        for number in decision.where.split(", ") if decision.allowed and decision.where else ():
            found.setdefault(rules[int(number)], set()).add(_Did.of(call))
    return found


def _breadth(rule: str) -> tuple[bool, bool, int]:
    """Rules for whole tools are the broadest, then those with a star; the longer, the narrower."""
    return _parsed(rule).pattern is None, "*" in rule, -len(rule)


def _exact_rules(policy: Policy, call: Call) -> Iterator[str]:
    """For each part of a command the narrowest rule that speaks of it, whatever it starts."""
    if call.tool != "Bash":
        return
    commands = commands_of(call.subject, call.cwd)
    for command in () if isinstance(commands, Unclear) else commands:
        if command.words and (rule := _rule(_start(command), exact=_is_exact(command))):
            yield rule


def _suggested_rules(policy: Policy, call: Call) -> Iterator[str]:
    """What the decision itself says would be needed, but for rules that give a whole tool of commands or files away."""
    for text in (decide(policy, call).suggestion or "").split(", "):
        try:
            rule = _parsed(text)
        except ValueError:
            continue
        if rule.pattern is not None or rule.tool not in ("Bash", "Read", "Edit", "Write"):
            yield text


def _other_rules(calls: Iterable[Call]) -> Iterator[str]:
    nothing = _policy(())
    for call in calls:
        if call.tool not in ("Bash", "BashOutput", "KillBash", "Read", "Glob", "Grep", "Edit", "Write"):
            yield from _suggested_rules(nothing, call)


# --- commands


def _command_rules(calls: Iterable[Call]) -> Iterator[str]:
    """By what the commands are: `git diff`, `pytest`, `python -m build`."""
    groups: dict[str, dict[tuple[str, ...], SimpleCommand]] = {}
    for command in _commands(calls):
        found = allowing((), command)
        if isinstance(found, Missing) and found.suggestion:
            groups.setdefault(found.suggestion, {})[_start(command)] = command
    for stem, members in groups.items():
        yield from _group_rules(stem, members)


def _commands(calls: Iterable[Call]) -> Iterator[SimpleCommand]:
    """All simple commands for which a rule is needed."""
    for call in calls:
        commands = commands_of(call.subject, call.cwd) if call.tool == "Bash" else ()
        for command in () if isinstance(commands, Unclear) else commands:
            yield from _needing(command)


def _needing(command: SimpleCommand, depth: int = 0) -> Iterator[SimpleCommand]:
    """The command, or what it starts, as far as that needs a rule."""
    if not isinstance(allowing((), command), Missing) or depth > _DEEPEST:
        return
    plain = replace(command, words=command.program)
    inside = seen_through(plain) if plain.words else None
    if inside is None:
        yield plain
        return
    for part in (*([inside.own] if inside.own else []), *inside.starts):
        yield from _needing(part, depth + 1)


def _start(command: SimpleCommand) -> tuple[str, ...]:
    """The words up to the first that a rule cannot name: one that the shell makes up, or with a star."""
    known = takewhile(lambda word: word.kind == "literal" and "*" not in word.text, command.words)
    return tuple(word.text for word in known)


def _is_exact(command: SimpleCommand) -> bool:
    return len(_start(command)) == len(command.words)


def _group_rules(stem: str, members: dict[tuple[str, ...], SimpleCommand]) -> Iterator[str]:
    """One rule for commands that begin alike, unless they are few and could run anything.

    Those with an option that a rule must name have rules of their own.
    """
    rule = _parsed(stem)
    alike = [words for words, command in members.items() if not _must_be_named(rule, command)]
    if len(alike) == 1 or (len(alike) <= SEVERAL and risk(rule)):
        alike = []
    if alike:
        common = posixpath.commonprefix([list(words) for words in alike])  # of words, as of any lists
        yield _rule(tuple(common), exact=False) or stem
    for words, command in members.items():
        if words not in alike and (own := _rule(words, exact=_is_exact(command))):
            yield own


def _must_be_named(rule: Rule, command: SimpleCommand) -> bool:
    return isinstance(rule.pattern, CommandPattern) and rule.pattern.risky_word(command.words) is not None


def _rule(words: tuple[str, ...], *, exact: bool) -> str | None:
    """The rule for these words alone, or with any others behind them; None when there is none."""
    try:
        return words_rule(words if exact else (*words, "*")) if words else None
    except ValueError:
        return None


# --- paths


def _path_rules(calls: Sequence[Call]) -> Iterator[str]:
    touched: dict[str, set[str]] = {"Read": set(), "Edit": set()}
    for call in calls:
        if call.tool in ("Read", "Glob", "Grep"):
            touched["Read"].add(normal(call.subject))
        elif call.tool in ("Edit", "Write"):
            touched["Edit"].add(normal(call.subject))
        elif call.tool == "Bash":
            for tool, path in _redirected(call):
                touched[tool].add(path)
    for tool, paths in touched.items():
        for path in _folders(paths, whole_repository=tool == "Read"):
            yield f"{tool}({_pattern(path, is_folder=path not in paths)})"


def _redirected(call: Call) -> Iterator[tuple[str, str]]:
    commands = commands_of(call.subject, call.cwd)
    for command in () if isinstance(commands, Unclear) else commands:
        for file in command.files:
            for text in _targets(file):
                for cwd in command.cwds or ():
                    yield "Read" if file.access == "read" else "Edit", normal(posixpath.join(cwd, text))


def _targets(file: Redirection) -> tuple[str, ...]:
    return (file.target.text,) if file.target.kind == "literal" else file.target.values


def _folders(paths: Iterable[str], *, whole_repository: bool) -> list[str]:
    """The paths, with a folder in the place of several that lie in it. Sorted."""
    found = set(paths)
    for folder in sorted({_parent(path) for path in _with_parents(found)}, key=lambda path: -path.count("/")):
        inside = [path for path in found if path != folder and _parent(path) == folder]
        if len(inside) >= SEVERAL and folder not in _TOO_HIGH and (folder != REPO or whole_repository):
            found = {path for path in found if not path.startswith(f"{folder}/")} | {folder}
    return sorted(path for path in found if not any(above in found for above in _above(path)))


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _above(path: str) -> Iterator[str]:
    while path := _parent(path):
        yield path


def _with_parents(paths: Iterable[str]) -> set[str]:
    return {above for path in paths for above in (path, *_above(path))}


def _pattern(path: str, *, is_folder: bool) -> str:
    """A pattern for the path; for the nearest folder whose name can be written, when its own cannot."""
    pattern = plain_path(path or "/")
    if pattern is None:
        return _pattern(_parent(path), is_folder=True)
    if not is_folder or pattern.endswith("**"):
        return pattern
    inside = f"{pattern}/**"
    return inside[1:] if inside[1:2].isalnum() else inside  # with a slash in it, it starts at the repository anyway
