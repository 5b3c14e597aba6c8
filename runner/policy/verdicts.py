"""What is judged, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from runner.policy.paths import REPO
from runner.policy.rules import Rule

Verdict = Literal["allow", "ask", "deny"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One thing a tool call would do, in the policy's words."""

    tool: str
    """Canonical tool name."""
    subject: str
    """A shell command for Bash, an absolute path for the file tools, a URL for WebFetch, "" where there is none."""
    cwd: str = REPO
    """Working directory that a command starts in."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What rules of the form `Tool(name:value)` may name, such as the model of an Agent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What was decided, by which rule (as written), where that rule stands (file:line), and why, in a sentence."""

    verdict: Verdict
    rule: str | None
    where: str | None
    reason: str
    suggestion: str | None = None
    """A rule that would allow it, for a person to paste; None when no rule could."""

    unjudged: bool = False
    """It is a command that could not be read, and that no rule and not the mode keeps from passing."""

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"


def about(rules: Iterable[Rule], tool: str) -> list[Rule]:
    """The rules that speak of a tool."""
    if tool.startswith("mcp__"):
        return [rule for rule in rules if rule.speaks_of(tool)]
    return [rule for rule in rules if tool in rule.tools]


def yes(reason: str) -> Decision:
    return Decision(verdict="allow", rule=None, where=None, reason=reason)


def no(reason: str, suggestion: str | None = None) -> Decision:
    return Decision(verdict="deny", rule=None, where=None, reason=reason, suggestion=suggestion)


def ask(reason: str, suggestion: str | None = None) -> Decision:
    return Decision(verdict="ask", rule=None, where=None, reason=reason, suggestion=suggestion)


def denied_by(rule: Rule) -> Decision:
    return Decision(verdict="deny", rule=rule.text, where=rule.where, reason=f"the policy denies it by the rule {rule}")


def asked_by(rule: Rule, suggestion: str | None = None) -> Decision:
    reason = f"by the rule {rule} a person is asked"
    return Decision(verdict="ask", rule=rule.text, where=rule.where, reason=reason, suggestion=suggestion)


def allowed_by(rules: list[Rule]) -> Decision:
    """By these rules, each of which allows a part."""
    texts = list(dict.fromkeys(rule.text for rule in rules))
    places = list(dict.fromkeys(rule.where for rule in rules if rule.where))
    rule = ", ".join(texts)
    reason = f"allowed by {rule}" if rule else "it does nothing"
    return Decision(verdict="allow", rule=rule or None, where=", ".join(places) or None, reason=reason)


def some(names: list[str]) -> str:
    """The distinct names, as many as a message holds."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - 40} more" if len(distinct) > 40 else ""
    return ", ".join(distinct[:40]) + more
