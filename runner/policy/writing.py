"""A policy as the text of a file: rules with a comment behind each, so that a person can judge them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from runner.policy.egress import Phase
from runner.policy.schema import Mode
from runner.policy.verdicts import Verdict

WIDTH = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a written policy says. Of the mappings the values are comments; "" for none."""

    head: tuple[str, ...] = ()
    """Lines of comment above all."""
    mode: Mode
    allow: Mapping[str, str] = field(default_factory=dict)
    ask: Mapping[str, str] = field(default_factory=dict)
    deny: Mapping[str, str] = field(default_factory=dict)
    egress: Mapping[Phase, Mapping[str, str]] = field(default_factory=dict)
    tests: Mapping[str, Verdict] = field(default_factory=dict)
    """Calls, and how they are to be decided."""


def policy_text(policy: Written) -> str:
    """YAML. Comments stay on their line, whatever is in them."""
    lines = [*(_comment(line) for line in policy.head), "version: 1", f"mode: {policy.mode}"]
    for key, rules in (("allow", policy.allow), ("ask", policy.ask), ("deny", policy.deny)):
        lines += _list(key, rules, indent="  ")
    if policy.egress:
        lines += ["", "egress:"]
        for phase, domains in policy.egress.items():
            lines += _list(phase, domains, indent="    ")[1:]
    if policy.tests:
        lines += ["", "tests:"]
        lines += [f"  - {{call: {quoted(call)}, expect: {expect}}}" for call, expect in policy.tests.items()]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A printable text as a scalar of YAML, which within double quotes has the escapes of JSON."""
    return json.dumps(text, ensure_ascii=False)


def plain(text: str) -> str:
    """On one line, every character that is not seen by its number: fit for a comment, and for a terminal."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else f"U+{ord(char):04X}" for char in line)


def _list(key: str, rules: Mapping[str, str], *, indent: str) -> list[str]:
    if not rules:
        return []
    items = [f"{indent}- {quoted(rule)}" for rule in rules]
    width = min(WIDTH // 2, max(map(len, items)))
    return ["", f"{indent[2:]}{key}:", *_commented(items, rules.values(), width)]


def _commented(items: Iterable[str], comments: Iterable[str], width: int) -> Iterator[str]:
    for item, comment in zip(items, comments, strict=True):
        yield f"{item:<{width}}  {_comment(comment)}" if comment else item


def _comment(text: str) -> str:
    return f"# {plain(text)}" if text else "#"
