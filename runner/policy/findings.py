"""What a policy says but hardly means: found without running anything, told by `check` and `policy check`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from runner.policy.command_pattern import CommandPattern
from runner.policy.decide import can_ever_allow
from runner.policy.domains import DomainPattern
from runner.policy.paths import PathPattern
from runner.policy.rules import TOOLS, Pattern, Rule
from runner.policy.schema import Policy


def findings(policy: Policy) -> tuple[str, ...]:
    """One sentence for each, the gravest first."""
    return tuple(
        (
            *_about_mode(policy),
            *_about_the_net(policy),
            *_without_effect(policy),
            *_twice(policy),
            *_misplaced(policy),
        )
    )


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether whatever the one rule speaks of, the other certainly does as well."""
    if not all(wide.speaks_of(tool) for tool in narrow.tools):
        return False
    return wide.pattern is None or (narrow.pattern is not None and _covers(wide.pattern, narrow.pattern))


def _about_mode(policy: Policy) -> Iterator[str]:
    if policy.mode == "blacklist":
        yield "mode blacklist guards against accidents only: there are many ways to write a command"
    speaks_of_mcp = any(rule.tool.startswith("mcp__") for rule in (*policy.allow, *policy.ask))
    if not speaks_of_mcp and not any(can_ever_allow(policy, tool) for tool in TOOLS):
        yield "the policy allows nothing at all"


def _about_the_net(policy: Policy) -> Iterator[str]:
    if anywhere := next((rule for rule in policy.allow if rule.tool == "WebFetch" and rule.pattern is None), None):
        yield f"{_place(anywhere)} allows pages of every host there is"
    if policy.secrets and (reached := [*policy.egress.agent, *policy.egress.setup, *policy.egress.checks]):
        names = ", ".join(dict.fromkeys(map(str, reached)))
        yield f"commands see {', '.join(policy.secrets)} and reach {names}: they can send the one to the other"


def _without_effect(policy: Policy) -> Iterator[str]:
    for rule in (*policy.allow, *policy.ask):
        if stronger := next((other for other in policy.deny if covers(other, rule)), None):
            yield f"{_place(rule)} has no effect: {_place(stronger)} denies all of it"
    for rule in policy.allow:
        if stronger := next((other for other in policy.ask if covers(other, rule)), None):
            yield f"{_place(rule)} has no effect: {_place(stronger)} has a person asked about all of it"


def _twice(policy: Policy) -> Iterator[str]:
    for rules in (policy.allow, policy.ask, policy.deny):
        first: dict[tuple[str, Pattern | None], Rule] = {}
        for rule in rules:
            if (before := first.setdefault((rule.tool, rule.pattern), rule)) is not rule:
                yield f"{_place(rule)} is there already: {_place(before)}"


_FOLDERS_OF_THE_ROOT = ("dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var", "workspace")
"""Which a repository hardly has."""


def _misplaced(policy: Policy) -> Iterator[str]:
    """`/etc/passwd` is a path in the repository, as in a .gitignore."""
    for rule in (*policy.allow, *policy.ask, *policy.deny):
        found = re.search(r"\((/(\w+)/.*)\)\Z", rule.text)
        if isinstance(rule.pattern, PathPattern) and found and found[2] in _FOLDERS_OF_THE_ROOT:
            yield f"{_place(rule)} starts at the repository; the root of the container is /{found[1]}"


def _place(rule: Rule) -> str:
    return f"{rule} ({rule.where})" if rule.where else str(rule)


# --- Patterns ---


def _covers(wide: Pattern, narrow: Pattern) -> bool:
    if wide == narrow:
        return True
    match wide, narrow:
        case PathPattern(), PathPattern():
            return _covers_path(wide, narrow)
        case CommandPattern(), CommandPattern():
            return _covers_command(wide.words, narrow.words)
        case DomainPattern(), DomainPattern():
            ports = not wide.ports or (bool(narrow.ports) and set(narrow.ports) <= set(wide.ports))
            return ports and (wide.subdomains_only or not narrow.subdomains_only) and wide.covers(narrow.host, None)
    return False


def _covers_path(wide: PathPattern, narrow: PathPattern) -> bool:
    """Whether the wide one covers the folder, or path, that the narrow one's plain names lead to."""
    plain = [re.sub(r"\\(.)", r"\1", name) for name in takewhile(_is_plain, narrow.names)]
    path = "/" + "/".join(plain)
    if len(plain) == len(narrow.names) and not narrow.only_folders:
        return wide.covers(path)
    return wide.covers_all_in(path)


def _is_plain(name: str) -> bool:
    return not re.search(r"[*?\[]", re.sub(r"\\.", "", name))


def _covers_command(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    """`git *` covers `git push *`."""
    *start, last = wide
    return last == "*" and "*" not in "".join(start) and list(narrow[: len(start)]) == start
